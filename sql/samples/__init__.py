"""The storage engine: arrivals, head, runs and blocks; or rows. See docs/architecture.md."""
