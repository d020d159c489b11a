"""What goes out to NATS and comes in from it: batches, verdicts, refused events."""
