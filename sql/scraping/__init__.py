"""Which process scrapes, and what it tells the others."""
