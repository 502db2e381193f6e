"""The service in the process of a test, and what it works with: receivers, workers, targets."""
