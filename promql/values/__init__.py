"""The values of expressions as columns over the step grid, and operations on them."""
