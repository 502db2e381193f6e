"""Hostile requests to a real service on a real database: it answers, stays alive and small."""
