"""What the services agree on: announcements and service requests of each, identifiers, shared checks. Pure, no I/O."""
