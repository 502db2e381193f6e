"""Metric definitions."""
