"""From the text of a query to its checked syntax tree, and back."""
