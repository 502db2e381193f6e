"""Aggregations: groups, their values, and the samples they select."""
