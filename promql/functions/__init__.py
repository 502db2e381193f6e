"""The PromQL functions: a registry of records, and the bodies, over windows or at each step."""
