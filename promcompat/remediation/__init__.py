"""Remediation with Temporal: the launcher, the reference workflow, its activities, the worker."""
