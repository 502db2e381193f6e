"""Samples by series in columns, and the fold that says which of them count."""
