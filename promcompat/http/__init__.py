"""What both HTTP APIs share: the server, its connections and request bodies."""
