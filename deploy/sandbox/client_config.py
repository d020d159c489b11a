"""The configuration file that flytekit and flytectl find this sandbox with."""


def client_config(port: int) -> str:
    """YAML as both read it. Without authentication on the server `Pkce` makes no call (clients.md 2.1)."""
    return f"""\
# Made by `make up`. Use it with: export FLYTECTL_CONFIG=<this file>   or: pyflyte --config <this file> ...
admin:
  endpoint: dns:///localhost:{port}
  insecure: true
  authType: Pkce
"""
