"""Tables and SQL of the events service; no other package of it contains SQL."""
