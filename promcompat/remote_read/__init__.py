"""The wire formats of remote read: requests in, samples or XOR chunks out."""
