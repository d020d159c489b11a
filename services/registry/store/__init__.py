"""The registry's tables and all SQL statements on them."""
