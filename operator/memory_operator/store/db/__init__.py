"""Connections, locks, notifications, migrations, the activity log."""
