"""Native JSON and NDJSON samples in."""
