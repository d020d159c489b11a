"""RPCs of the registry: one class per Flyte noun, methods named like the RPC."""
