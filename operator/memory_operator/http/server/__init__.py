"""The server that answers: its loop, what stands before every route, its probes."""
