"""Caches of what was read from the database, bounded in bytes."""
