"""Tables and SQL; nothing else in the service speaks it."""
