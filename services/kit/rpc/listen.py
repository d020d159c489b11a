"""Listening on an address as settings write it: host:port, or unix:PATH of a socket in the file system."""

import asyncio
import os
from collections.abc import Callable

from services.kit.process.settings import UNIX

# A burst of calls may be a burst of connections; what the kernel allows by default.
_BACKLOG = 4096
# The gateway tells services who is calling, so nobody else may reach what it does.
_OWNER_ONLY = 0o600


async def listen(address: str, connection: Callable[[], asyncio.Protocol]) -> asyncio.Server:
    """Serve each connection to `address` by a `connection` of its own; raises OSError when the port is taken.

    A socket that a killed process left behind is replaced.
    """
    loop = asyncio.get_running_loop()
    if address.startswith(UNIX):
        server = await loop.create_unix_server(
            connection, address.removeprefix(UNIX), backlog=_BACKLOG, start_serving=False
        )
        os.chmod(address.removeprefix(UNIX), _OWNER_ONLY)  # noqa: PTH101 - before anybody can connect, not beside
        await server.start_serving()
        return server
    host, _, port = address.rpartition(":")
    return await loop.create_server(connection, host.strip("[]"), int(port), backlog=_BACKLOG)
