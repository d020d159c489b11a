"""Take events from engines: collect them by lane, append batches to the stream, return verdicts."""
