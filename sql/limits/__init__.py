"""The overrides of limits in the database."""
