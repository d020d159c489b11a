"""Pure rules of the events service."""
