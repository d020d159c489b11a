"""A service as a process: settings, start, readiness, metrics, end."""
