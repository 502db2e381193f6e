"""Texts as others write them: Go's numbers, durations, YAML; what may be stored or shown."""
