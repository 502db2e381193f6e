"""The blocks of Prometheus' TSDB: their index, chunks and tombstones."""
