"""An embedded PostgreSQL with pgvector."""
