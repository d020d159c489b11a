"""List requests of the registry."""
