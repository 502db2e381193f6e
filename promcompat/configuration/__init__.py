"""The settings of the service, in groups, and how they are read and shown."""
