"""A memory on its way in, and out again."""
