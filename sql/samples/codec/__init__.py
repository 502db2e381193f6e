"""The sample codec: pages of samples to columns and back, to the bit."""
