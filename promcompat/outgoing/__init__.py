"""Calls to other hosts: which of them the service may reach, and with which secrets."""
