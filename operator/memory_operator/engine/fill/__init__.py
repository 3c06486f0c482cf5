"""Vectors for every chunk: claim, read, send, write, complete."""
