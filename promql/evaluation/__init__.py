"""Evaluation of a plan over the whole grid of steps."""
