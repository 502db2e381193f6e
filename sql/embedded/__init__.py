"""The PostgreSQL that promcompat installs, starts and stops by itself when it is given no URL."""
