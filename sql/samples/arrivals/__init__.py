"""The log of arrivals: every acknowledged sample is appended to it."""
