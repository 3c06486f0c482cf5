"""What was called and paid, and what may still be."""
