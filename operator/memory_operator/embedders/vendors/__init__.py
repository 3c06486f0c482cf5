"""One module for each type of Provider."""
