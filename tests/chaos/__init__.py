"""Faults that no acknowledged sample may be lost to, and none stored twice by."""
