"""What several commands show: spaces, jobs, waiting."""
