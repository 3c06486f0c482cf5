"""Jobs, ranges, and what lacks a vector."""
