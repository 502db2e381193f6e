"""What a tenant may use: its limits by name, and how tenants share what is scarce."""
