"""How Flyteplane is run: `sandbox` on one machine, `helm` in a cluster. Imports no service."""
