"""Consumers of the events service: what it receives over NATS."""
