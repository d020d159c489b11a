"""What an operator can ask for on the command line; each command builds the parts that it needs."""
