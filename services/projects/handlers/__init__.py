"""The RPCs of the projects service."""
