"""The local engine: runs what is launched on the sandbox, and reports it by events as flytepropeller does."""
