"""Many memories from one file."""
