"""The processes of promcompat, one module per subcommand, and what they share."""
