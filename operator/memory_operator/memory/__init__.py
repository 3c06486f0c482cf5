"""Preprocessing, chunking, encryption, fusion. Pure functions, no I/O."""
