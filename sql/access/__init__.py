"""Tokens in PostgreSQL."""
