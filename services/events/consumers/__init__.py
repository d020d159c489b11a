"""What the events service receives over NATS."""
