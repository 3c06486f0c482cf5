"""The memory API and the admin API."""
