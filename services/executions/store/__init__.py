"""Tables and SQL of the executions service."""
