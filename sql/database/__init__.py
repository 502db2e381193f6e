"""Connections to PostgreSQL: pools, tenants, capabilities, and the guard of the installation."""
