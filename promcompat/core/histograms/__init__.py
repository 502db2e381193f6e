"""Native histograms: their columns, their buckets, and which of them are valid."""
