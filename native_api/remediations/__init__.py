"""Remediations and their decisions."""
