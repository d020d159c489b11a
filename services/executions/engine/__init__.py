"""The interface to an engine: what it receives, when it is called, and what its responses change."""
