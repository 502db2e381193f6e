"""The endpoints that take samples: remote write, OTLP, and the formats of other systems."""
