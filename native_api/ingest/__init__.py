"""Ingest of JSON samples."""
