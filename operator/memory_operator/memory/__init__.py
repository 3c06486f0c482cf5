"""Preprocessing, chunking, encryption, rank fusion. Pure functions, no I/O."""
