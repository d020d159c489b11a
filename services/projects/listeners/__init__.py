"""What the projects service is asked by other services."""
