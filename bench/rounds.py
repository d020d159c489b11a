"""Calls with the retries of the engine, counted.

The engine's client retries a call that returned UNAVAILABLE or RESOURCE_EXHAUSTED, up to five tries in all. When the
last fails the engine's round has failed: it discards the round and begins a new one after a pause, with the same event.
After more than ten failed rounds of an execution the engine aborts it
(events.md#path-of-an-event-in-the-client, events.md#reactions-of-the-engine).
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from flyteidl.admin.event_pb2 import EventFailureReason
from google.rpc.status_pb2 import Status

from bench.answers import NOT_FOUND, OK, RESOURCE_EXHAUSTED, UNAVAILABLE, Response
from bench.entities import ALREADY_EXISTS
from bench.http2 import Channel
from bench.sequences import Play

# The codes that the engine's client retries, its tries in all, and its pauses.
RETRIED = frozenset((UNAVAILABLE, RESOURCE_EXHAUSTED))
CALL_ATTEMPTS = 5
_CALL_PAUSE_SECONDS = 0.1
_JITTER = 0.1
MAX_FAILED_ROUNDS = 10
# The engine waits up to a minute; that is too long for a benchmark, and shorter pauses are harder for the server.
_ROUND_PAUSE_SECONDS = 1.0
_ROUND_PAUSE_MOST = 10.0


@dataclass
class Played:
    """One execution, its accepted events and failed rounds. `doubtful` when its last call has no known result."""

    name: str
    play: Play
    created: bool = False
    accepted: int = 0
    doubtful: bool = False
    failed_rounds: int = 0

    @property
    def ended(self) -> bool:
        """Whether all of its events were accepted."""
        return self.created and self.accepted == len(self.play.steps)


@dataclass
class Tally:
    """All calls and their responses. Latencies in seconds."""

    events: list[float] = field(default_factory=list)
    creates: list[float] = field(default_factory=list)
    responses: Counter[tuple[str, int]] = field(default_factory=Counter)
    """All calls, by method and code."""
    errors: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    """Failed rounds, and unexpected ALREADY_EXISTS, by method, code and message."""
    retries: Counter[tuple[str, int]] = field(default_factory=Counter)
    executions: list[Played] = field(default_factory=list)
    in_time: int = 0
    """Events accepted before the time was over."""
    in_parts: list[int] = field(default_factory=list)
    """`in_time` after each of the equal parts of the time (`load.PARTS`)."""
    creates_in_time: int = 0
    bytes_sent: int = 0
    """Of events."""

    @property
    def given_up(self) -> list[Played]:
        """Executions that the engine would have aborted."""
        return [played for played in self.executions if not played.ended]


class Rounds:
    """The caller of a server over `channel`; it counts its calls in `tally`."""

    def __init__(self, channel: Channel, tally: Tally, clock: Callable[[], float] = time.perf_counter) -> None:
        self._channel = channel
        self._tally = tally
        self._clock = clock

    async def send(self, played: Played, path: str, request: bytes, *, ends: bool = False) -> bool:
        """Call until it is accepted; return False when the engine gives the execution up.

        `ends` means that the event ends its entity: the engine then accepts that the entity has ended before.
        """
        repeated = False
        played.doubtful = True
        while True:
            response = await self._round(path, request, repeated=repeated)
            if response.code == OK or _already_ended(response, ends=ends):
                played.doubtful = False
                return True
            self._tally.errors[path, response.code, response.message.replace(played.name, "<name>")] += 1
            if response.code == ALREADY_EXISTS:  # although it was not sent before; the engine accepts it
                played.doubtful = False
                return True
            played.failed_rounds += 1
            if response.code == NOT_FOUND or played.failed_rounds > MAX_FAILED_ROUNDS:
                return False
            await asyncio.sleep(min(_ROUND_PAUSE_SECONDS * 2 ** (played.failed_rounds - 1), _ROUND_PAUSE_MOST))
            repeated = True

    async def _round(self, path: str, request: bytes, *, repeated: bool) -> Response:
        """Make one round's call with its tries; ALREADY_EXISTS after an earlier try is OK."""
        for attempt in range(CALL_ATTEMPTS):
            response = await self._channel.call(path, request)
            self._tally.responses[path, response.code] += 1
            if response.code == ALREADY_EXISTS and (repeated or attempt):
                return Response(OK, "", b"")
            if response.code not in RETRIED or attempt == CALL_ATTEMPTS - 1:
                break
            self._tally.retries[path, response.code] += 1
            jitter = 1 + _JITTER * random.random()  # noqa: S311  # it spreads load, no secret depends on it
            await asyncio.sleep(_CALL_PAUSE_SECONDS * 2**attempt * jitter)
        return response


def _already_ended(response: Response, *, ends: bool) -> bool:
    """Return whether an event that ends its entity was refused because that has ended already.

    The engine takes that for success (events.md#reactions-of-the-engine).
    """
    if not ends or not response.details:
        return False
    reason = EventFailureReason()
    details = Status.FromString(response.details).details
    return any(detail.Unpack(reason) and reason.HasField("already_in_terminal_state") for detail in details)
