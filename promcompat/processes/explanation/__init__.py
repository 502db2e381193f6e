"""`promcompat explain`: a plan asked of a service or made on the database, as text or in colour."""
