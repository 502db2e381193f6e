"""The tables of drained samples: runs, blocks and rows."""
