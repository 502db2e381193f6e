"""What the database keeps besides samples, series and alerts: a repository for each resource."""
