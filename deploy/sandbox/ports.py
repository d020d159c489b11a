"""The ports of one run of a sandbox."""

import random
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self

from deploy.sandbox.errors import SandboxError

# Below the range from which Linux takes ports for outgoing connections, so the port of a part is still free when it
# restarts; above the ports that well-known servers use.
_PORTS = range(20_000, 32_000)
_TRIES = 1_000


@dataclass(frozen=True)
class Ports:
    """The loopback ports of one run: the gateway's as requested, the others free ones."""

    gateway: int
    others: Mapping[str, int]

    @classmethod
    def find(cls, gateway: int, names: Sequence[str], preferred: Mapping[str, int]) -> Self:
        """Find a free port for each name, the preferred one if possible.

        Raises:
            SandboxError: the gateway's port is in use, or there are not enough free ones.
        """
        if not _free(gateway):
            raise SandboxError(f"port {gateway} is in use by another program; choose another: make up PORT=31080")
        candidates = iter(random.sample(_PORTS, _TRIES))
        others: dict[str, int] = {}
        for name in names:
            first = [preferred[name]] if name in preferred else []
            port = next((port for port in chain(first, candidates) if port != gateway and _free(port)), None)
            if port is None:
                raise SandboxError(f"no free port found between {_PORTS.start} and {_PORTS.stop}")
            others[name] = port
        return cls(gateway, others)

    def address(self, name: str) -> str:
        """Return host:port of `name`."""
        return f"127.0.0.1:{self.gateway if name == 'gateway' else self.others[name]}"


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: without it connections that ended a moment ago would count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
