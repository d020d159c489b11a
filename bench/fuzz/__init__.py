"""Mutated calls against a sandbox of its own: `python -m bench.fuzz`.

`requests` makes a valid request for every RPC, `mutations` mutates it, `calls` sends it by gRPC or REST, `findings`
decides which responses are problems. `__main__` runs it all.
"""
