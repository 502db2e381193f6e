"""Binary operators between vectors: matching and sets."""
