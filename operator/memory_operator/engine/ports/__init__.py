"""What the engine asks of the outside: Providers, Secrets, reviews."""
