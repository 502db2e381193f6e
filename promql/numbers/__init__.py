"""Go's arithmetic and number texts, bit for bit."""
