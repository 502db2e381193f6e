"""What stands for the samples of past days, as columns and as pages."""
