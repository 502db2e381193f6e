"""Series, their labels and metadata: resolving, matching and listing."""
