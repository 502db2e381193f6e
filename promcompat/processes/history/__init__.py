"""`promcompat import`: the sources of history, and how it is read and sent."""
