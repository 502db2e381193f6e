"""Dashboards in the database."""
