"""The RPCs, a class per Flyte noun; methods carry the name of the RPC they answer."""
