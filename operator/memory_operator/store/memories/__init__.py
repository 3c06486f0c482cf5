"""Versions and chunks, whose they are, and the two searches."""
