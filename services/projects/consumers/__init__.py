"""What the projects service receives over NATS."""
