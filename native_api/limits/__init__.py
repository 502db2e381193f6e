"""`/api/v1/limits`: the limits of the tenant, and its overrides."""
