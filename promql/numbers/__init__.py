"""Arithmetic with Prometheus' special cases, compensated sums and Go's number texts."""
