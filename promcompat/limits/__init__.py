"""The limits of tenants: values from settings, file and database, and the rate of ingest."""
