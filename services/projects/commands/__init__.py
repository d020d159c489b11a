"""Commands of the projects service for operators."""
