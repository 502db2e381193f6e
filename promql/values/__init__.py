"""The values of expressions as columns over the grid of steps, and operations every room needs."""
