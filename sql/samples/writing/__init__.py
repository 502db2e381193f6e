"""What every store does with the samples of a request, up to the group commit."""
