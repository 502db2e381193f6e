"""Finds out in whose name a request is made: tokens of the service, and those of an OIDC issuer."""
