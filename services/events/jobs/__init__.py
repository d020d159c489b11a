"""Jobs of the events service, run by the clock."""
