"""What the projects service does by the clock."""
