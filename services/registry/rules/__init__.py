"""Pure decisions of the registry: checks of requests, schedules, digests, errors."""
