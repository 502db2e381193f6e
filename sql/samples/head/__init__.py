"""The head: the undrained arrivals in the memory of a process."""
