"""Listen on an address of the settings: host:port, or unix:PATH of a socket in the file system."""

import asyncio
import os
from collections.abc import Callable

from services.kit.process.settings import UNIX

# A burst of calls may be a burst of connections; the kernel's default limit.
_BACKLOG = 4096
# Services trust what the gateway sends about a caller, so no other user may connect.
_OWNER_ONLY = 0o600


async def listen(address: str, connection: Callable[[], asyncio.Protocol]) -> asyncio.Server:
    """Listen on `address`; raise OSError when the port is in use. A socket of a killed process is replaced.

    Args:
        address: host:port or unix:PATH.
        connection: makes the protocol of each connection.
    """
    loop = asyncio.get_running_loop()
    if address.startswith(UNIX):
        server = await loop.create_unix_server(
            connection, address.removeprefix(UNIX), backlog=_BACKLOG, start_serving=False
        )
        os.chmod(address.removeprefix(UNIX), _OWNER_ONLY)  # noqa: PTH101 - in this thread, before any client can connect
        await server.start_serving()
        return server
    host, _, port = address.rpartition(":")
    return await loop.create_server(connection, host.strip("[]"), int(port), backlog=_BACKLOG)
