"""Values, rules and ports that every room shares; no I/O."""
