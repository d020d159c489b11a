"""The life of a process: settings, start, readiness, metrics, end."""
