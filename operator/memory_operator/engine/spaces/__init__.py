"""Which space answers queries, and how far its job is."""
