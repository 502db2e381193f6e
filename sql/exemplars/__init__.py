"""The repository of exemplars."""
