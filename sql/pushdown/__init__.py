"""PromQL selectors to SQL: which samples a query needs, and the statements that read them."""
