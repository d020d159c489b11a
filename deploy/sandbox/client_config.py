"""The configuration file by which flytekit and flytectl find this sandbox."""


def client_config(port: int) -> str:
    """Return YAML that both read.

    Without authentication on the server `Pkce` makes no call (clients.md#flytekit-configuration).
    """
    return f"""\
# Made by `make up`. Use it with: export FLYTECTL_CONFIG=<this file>   or: pyflyte --config <this file> ...
admin:
  endpoint: dns:///localhost:{port}
  insecure: true
  authType: Pkce
"""
