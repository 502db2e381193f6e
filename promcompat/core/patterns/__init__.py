"""Regular expressions with Prometheus' semantics, and what is made of their matches."""
