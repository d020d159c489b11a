"""Pure decisions of the registry: validation, the workflow compiler, schedules, digests."""
