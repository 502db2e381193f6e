"""Queries: result cache, explanation, and the bucketed queries of the native API."""
