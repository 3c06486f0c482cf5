"""HTTP as all vendors need it."""
