"""What the services agree on: facts and questions of each owner, identifiers, shared checks. Pure, no I/O."""
