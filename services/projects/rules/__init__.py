"""Pure decisions about projects and matchable attributes."""
