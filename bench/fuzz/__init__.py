"""Mutated calls against a sandbox of its own: `python -m bench.fuzz`.

`requests` makes a good request for every RPC, `mutations` spoils it, `calls` sends it by gRPC or REST, `findings` says
what no answer may be. `__main__` runs it all.
"""
