"""`promcompat serve`: one serving process, several of them, and what a person reads of it."""
