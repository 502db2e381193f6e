"""The formats of senders and readers, written and read without our own code."""
