"""What an operator can ask for on the command line; each command builds the parts that it needs."""

NOT_FOUND = 1
"""Exit status when there is no such execution."""
