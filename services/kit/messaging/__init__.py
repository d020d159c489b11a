"""NATS: requests between services, streams and their consumers, the outbox."""
