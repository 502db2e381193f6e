"""From a checked tree to a plan: which samples are selected, and for which steps."""
