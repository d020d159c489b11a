"""Sends one call as the engine does, and keeps the books.

The engine's client tries a call again that was answered UNAVAILABLE or RESOURCE_EXHAUSTED, five times in all. When that
fails the engine's round has failed: it drops what it did in the round and begins a new one after a pause, with the same
event. More than ten failed rounds in the life of an execution and the engine aborts it (events.md 1.1 and 1.3).
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from flyteidl.admin.event_pb2 import EventFailureReason
from google.rpc.status_pb2 import Status

from bench.answers import NOT_FOUND, OK, RESOURCE_EXHAUSTED, UNAVAILABLE, Answer
from bench.entities import ALREADY_EXISTS
from bench.http2 import Channel
from bench.sequences import Play

# What the engine's client tries again, how often in all, and its pauses.
RETRIED = frozenset((UNAVAILABLE, RESOURCE_EXHAUSTED))
CALL_ATTEMPTS = 5
_CALL_PAUSE_SECONDS = 0.1
_JITTER = 0.1
MAX_FAILED_ROUNDS = 10
# The engine waits up to a minute; nobody has that much time here, and shorter pauses are harder on the server.
_ROUND_PAUSE_SECONDS = 1.0
_ROUND_PAUSE_MOST = 10.0


@dataclass
class Played:
    """One execution: how far it got, and what it cost. `doubtful` when its last call has no certain result."""

    name: str
    play: Play
    created: bool = False
    accepted: int = 0
    doubtful: bool = False
    failed_rounds: int = 0

    @property
    def ended(self) -> bool:
        """Whether every event of its life was accepted."""
        return self.created and self.accepted == len(self.play.steps)


@dataclass
class Tally:
    """What was sent and how it was answered. Latencies in seconds."""

    events: list[float] = field(default_factory=list)
    creates: list[float] = field(default_factory=list)
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Of every single call, by method and code."""
    errors: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    """Failed rounds, and surprises, by method, code and message."""
    retries: Counter[tuple[str, int]] = field(default_factory=Counter)
    executions: list[Played] = field(default_factory=list)
    in_time: int = 0
    """Events answered OK before the time was over."""
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
    """Makes calls over `channel` and counts them in `tally`."""

    def __init__(self, channel: Channel, tally: Tally, clock: Callable[[], float] = time.perf_counter) -> None:
        self._channel = channel
        self._tally = tally
        self._clock = clock

    async def send(self, played: Played, path: str, request: bytes, *, ends: bool = False) -> bool:
        """Call until it is accepted; answers False when the engine gives the execution up.

        `ends` says that the event brings its entity to an end: that it had come to one before is then good news.
        """
        repeated = False
        played.doubtful = True
        while True:
            answer = await self._round(path, request, repeated=repeated)
            if answer.code == OK or _good_news(answer, ends=ends):
                played.doubtful = False
                return True
            self._tally.errors[path, answer.code, answer.message.replace(played.name, "<name>")] += 1
            if answer.code == ALREADY_EXISTS:  # of what was never sent before; the engine does not mind
                played.doubtful = False
                return True
            played.failed_rounds += 1
            if answer.code == NOT_FOUND or played.failed_rounds > MAX_FAILED_ROUNDS:
                return False
            await asyncio.sleep(min(_ROUND_PAUSE_SECONDS * 2 ** (played.failed_rounds - 1), _ROUND_PAUSE_MOST))
            repeated = True

    async def _round(self, path: str, request: bytes, *, repeated: bool) -> Answer:
        """One round's call with its tries; what a try before has done already is done."""
        for attempt in range(CALL_ATTEMPTS):
            answer = await self._channel.call(path, request)
            self._tally.answers[path, answer.code] += 1
            if answer.code == ALREADY_EXISTS and (repeated or attempt):
                return Answer(OK, "", b"")
            if answer.code not in RETRIED or attempt == CALL_ATTEMPTS - 1:
                break
            self._tally.retries[path, answer.code] += 1
            jitter = 1 + _JITTER * random.random()  # noqa: S311  # spreads load, guards nothing
            await asyncio.sleep(_CALL_PAUSE_SECONDS * 2**attempt * jitter)
        return answer


def _good_news(answer: Answer, *, ends: bool) -> bool:
    """Whether the engine takes a refusal of an event that ends its entity for success (events.md 1.3)."""
    if not ends or not answer.details:
        return False
    reason = EventFailureReason()
    details = Status.FromString(answer.details).details
    return any(detail.Unpack(reason) and reason.HasField("already_in_terminal_state") for detail in details)
