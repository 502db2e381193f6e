"""Writing and listing metrics, their definitions, and maintenance."""
