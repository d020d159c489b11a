"""What reaches the registry over NATS: questions of the other services."""
