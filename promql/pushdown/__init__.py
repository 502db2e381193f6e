"""Which samples of a selection need not be fetched, because no answer depends on them."""
