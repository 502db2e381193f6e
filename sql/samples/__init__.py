"""Storage of samples: writing, reading and maintaining the table of samples."""
