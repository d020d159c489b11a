"""The application of batches of events: decode, read rows, fold, write, return verdicts."""
