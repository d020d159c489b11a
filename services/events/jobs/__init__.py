"""What the events service does by the clock."""
