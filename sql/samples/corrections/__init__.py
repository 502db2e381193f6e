"""Corrections of stored samples: deletions, replacements, scaling and new labels."""
