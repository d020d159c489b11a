"""What the registry receives over NATS."""
