"""Decisions: desired and applied in, a plan out. Pure functions, no I/O."""
