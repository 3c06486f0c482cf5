"""The memory API as the command line sees it."""
