"""What each command starts: the composition of the parts, and nothing else."""
