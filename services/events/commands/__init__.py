"""Commands for operators; each builds the parts that it needs."""
