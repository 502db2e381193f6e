"""The two stores, of blocks and of rows, and their maintenance."""
