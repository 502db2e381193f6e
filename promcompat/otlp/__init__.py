"""OTLP metrics: an export request in, a columnar WriteBatch out, translated as Prometheus does."""
