"""From a checked tree to a plan: what is selected, over which times, at which steps."""
