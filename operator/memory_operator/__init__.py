"""A Kubernetes operator that owns the embedding model of a pgvector memory store."""
