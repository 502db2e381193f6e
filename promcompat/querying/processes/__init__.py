"""Processes of low priority that evaluate long queries, so that others do not wait for them."""
