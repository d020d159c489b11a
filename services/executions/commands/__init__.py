"""Commands of an operator; each builds the parts that it needs."""

NOT_FOUND = 1
"""Exit status when there is no such execution."""
