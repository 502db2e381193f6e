"""Native reads: latest, aggregate, series, buckets."""
