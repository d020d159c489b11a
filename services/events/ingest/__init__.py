"""The path of events to the stream: collected by lane, appended in batches, their verdicts returned to the callers."""
