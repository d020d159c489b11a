"""What the executions service does by the clock."""
