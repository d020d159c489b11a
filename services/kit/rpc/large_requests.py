"""Large requests: how many are in memory at a time, and where they are parsed.

A request's memory is that of its parts: a submessage of two bytes takes some hundred bytes. It is reserved before the
request is parsed, until its reply, from a total that client connections share; a request waits until it is free.
"""

import asyncio
from collections.abc import Callable

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from services.kit.errors import ResourceExhausted
from services.kit.protobuf.parts import count_parts
from services.kit.rpc.cpu_pool import MOST_LOOP_BYTES, CpuPool
from services.kit.rpc.fairness import FairSemaphore, current_client_connection
from services.kit.rpc.framing import CompressedMessage

# Most events and reads are smaller: 1,000 parts at most, which are parsed in a fraction of a millisecond.
MOST_SMALL_BYTES = 2 * 1024
# A request of this size is not counted, but may have a part for every two bytes.
_MOST_UNCOUNTED_BYTES = 64 * 1024
_SMALLEST_PART_BYTES = 2

# A list of 330,000 integers, and workflows of some ten thousand nodes, have fewer.
MOST_PARTS = 1_000_000
# What a part takes when it is parsed and read, about: from 25 bytes (an integer) to 185 (a node).
_PART_BYTES = 128
_MEMORY_BYTES = 192 * 1024 * 1024
# A little more than the largest request needs.
_CONNECTION_BYTES = 140 * 1024 * 1024

# The beginning is grpcio's message, which clients search for (common.md#errors).
_TOO_MANY_PARTS = (
    f"Received message larger than max (more than {MOST_PARTS} parts: messages, entries of maps and items of lists)"
)


# Raises a ServiceError or a DecodeError.
CheckLarge = Callable[[Descriptor, bytes], None]


class LargeRequests:
    """Reads the requests of a process that are larger than MOST_SMALL_BYTES or compressed.

    Those whose parts are counted are also passed to `check`, if there is one.
    """

    def __init__(self, cpu_pool: CpuPool, check: CheckLarge | None = None) -> None:
        self._cpu_pool = cpu_pool
        self._check = check
        self._memory = FairSemaphore(_MEMORY_BYTES, _CONNECTION_BYTES)
        self._turn = FairSemaphore(1)

    async def read(
        self, message_type: Descriptor, parse: Callable[[bytes], Message], payload: bytes | CompressedMessage
    ) -> tuple[Message, int]:
        """Return the parsed request, and its memory, which must be released.

        A request of at most `MOST_LOOP_BYTES` is parsed on the event loop, in one turn with the handler's first steps.
        Other calls have their turns before the next such request.

        Raises:
            ServiceError: the request is malformed, too large or has too many parts.
        """
        connection = current_client_connection()
        if isinstance(payload, bytes) and len(payload) <= _MOST_UNCOUNTED_BYTES:
            memory = len(payload) // _SMALLEST_PART_BYTES * _PART_BYTES
        else:
            # With a larger `max_message_bytes` the largest request has the whole share of its connection.
            memory = min(_CONNECTION_BYTES, await self._cpu_pool.run(_memory_of, message_type, payload, self._check))
        await self._memory.acquire(connection, size=memory)
        try:
            if isinstance(payload, bytes) and len(payload) <= MOST_LOOP_BYTES:
                await self._take_turn()
                return parse(payload), memory
            request = await self._cpu_pool.run(_parse, parse, payload)
            await self._take_turn()
        except BaseException:
            self.release(memory)
            raise
        return request, memory

    def release(self, memory: int) -> None:
        """Release the memory of a request of the current client connection."""
        self._memory.release(current_client_connection(), memory)

    async def _take_turn(self) -> None:
        """Wait for a turn of the event loop in which no other large request begins."""
        connection = current_client_connection()
        await self._turn.acquire(connection)
        asyncio.get_running_loop().call_soon(self._turn.release, connection)


def _memory_of(message_type: Descriptor, payload: bytes | CompressedMessage, check: CheckLarge | None) -> int:
    message = _message(payload)
    try:
        parts = count_parts(message_type, message, MOST_PARTS)
        if check is not None and parts <= MOST_PARTS:
            check(message_type, message)
    except DecodeError:
        return len(message)  # the parser refuses it, and says why
    if parts > MOST_PARTS:
        raise ResourceExhausted(_TOO_MANY_PARTS)
    return len(message) + parts * _PART_BYTES


def _parse(parse: Callable[[bytes], Message], payload: bytes | CompressedMessage) -> Message:
    return parse(_message(payload))


def _message(payload: bytes | CompressedMessage) -> bytes:
    # Decompressing twice takes some milliseconds; the message is not kept while the request waits.
    return payload.decompressed() if isinstance(payload, CompressedMessage) else payload
