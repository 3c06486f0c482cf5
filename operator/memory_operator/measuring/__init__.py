"""How good rankings are, and what a difference is worth: pure functions for the server and the command line alike."""
