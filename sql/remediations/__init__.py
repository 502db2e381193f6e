"""The repository of remediations."""
