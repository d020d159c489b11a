"""The audit log: a table in each service of who changed what (docs/operating/audit.md#what-is-recorded)."""
