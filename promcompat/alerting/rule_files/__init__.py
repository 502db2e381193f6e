"""Rule files of Prometheus: read, checked, written, and tested without a database."""
