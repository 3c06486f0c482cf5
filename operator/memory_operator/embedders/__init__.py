"""The only place that knows embedding APIs."""
