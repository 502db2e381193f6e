"""What each PromQL function computes: over windows, and at one step."""
