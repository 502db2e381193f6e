"""The repository of metric definitions."""
