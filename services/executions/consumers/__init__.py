"""What the executions service receives over NATS."""
