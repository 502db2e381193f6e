"""How much a tenant stores."""
