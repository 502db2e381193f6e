"""Reading: the head and the tables of drained samples, as of one snapshot."""
