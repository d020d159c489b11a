"""Service requests to executions over NATS."""
