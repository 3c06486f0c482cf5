"""What people see and steer: spaces, jobs, usage, consent."""
