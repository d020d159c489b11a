"""Tables and SQL of the registry; the only package here that speaks SQL."""
