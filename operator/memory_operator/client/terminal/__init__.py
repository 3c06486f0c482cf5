"""What people see: text, tables, progress bars."""
