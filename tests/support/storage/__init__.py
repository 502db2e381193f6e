"""The storage on a test database, driven by hand, and models of what it keeps."""
