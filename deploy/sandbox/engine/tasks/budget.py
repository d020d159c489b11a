"""The cores and the memory of this machine, which attempts of tasks share.

Tasks are admitted in the order in which they ask, by what they request. One that requests more than there is gets all
of it, and runs alone. Nothing limits what a running task uses.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction

from flyteidl.core.tasks_pb2 import Resources

from services.contracts.quantities import parse_quantity

_MEBIBYTE = 1 << 20
# Attempts that a text names of those that hold what another waits for.
_MOST_NAMED = 3


@dataclass(frozen=True)
class Share:
    """Cores and bytes of memory."""

    cores: Fraction
    memory: Fraction

    @classmethod
    def of(cls, resources: Resources) -> "Share":
        """Return what a task requests; amounts that cannot be read count as zero (engine.md#task-resources)."""
        amounts = {entry.name: _amount(entry.value) for entry in resources.requests}
        return cls(amounts.get(Resources.CPU, Fraction(0)), amounts.get(Resources.MEMORY, Fraction(0)))


@dataclass
class Budget:
    """What is not taken of the total."""

    total: Share
    _free: Share = field(init=False)
    _holders: dict[asyncio.Future[None], str] = field(default_factory=dict)
    _waiting: deque[tuple[Share, asyncio.Future[None]]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._free = self.total

    @property
    def waiting(self) -> int:
        """How many attempts wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def taken(
        self, share: Share, waited: Callable[[], None] = lambda: None, holder: str = "a task"
    ) -> AsyncIterator[None]:
        """Wait for `share`, and hold it during the block.

        Args:
            share: What is to be held.
            waited: Called when the wait is over, however it ends.
            holder: Names the attempt to those that wait.
        """
        share = self._bounded(share)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((share, turn))
        self._grant()
        try:
            await turn
            waited()
        except asyncio.CancelledError:
            waited()
            if not turn.done() or turn.cancelled():
                self._waiting = deque(entry for entry in self._waiting if entry[1] is not turn)
                self._grant()
            else:
                self._give_back(share)
            raise
        self._holders[turn] = holder
        try:
            yield
        finally:
            del self._holders[turn]
            self._give_back(share)

    def reason(self, share: Share) -> str:
        """Return what an attempt that waits for `share` waits for, as a short text."""
        share = self._bounded(share)
        names = list(dict.fromkeys(self._holders.values()))
        taken_by = ", ".join(names[:_MOST_NAMED])
        if (more := len(names) - _MOST_NAMED) > 0:
            taken_by += f" and {more} more"
        if share.cores > self._free.cores:
            what = f"{_number(share.cores)} of {_number(self.total.cores)} cores"
        elif share.memory > self._free.memory:
            what = f"{_megabytes(share.memory)} of {_megabytes(self.total.memory)} MiB of memory"
        else:
            return "waiting for tasks that asked before"
        return f"waiting for {what}, taken by {taken_by}" if names else f"waiting for {what}"

    def first_reason(self) -> str:
        """Return what the first attempt that waits waits for; empty for none."""
        return self.reason(self._waiting[0][0]) if self._waiting else ""

    def _bounded(self, share: Share) -> Share:
        return Share(min(share.cores, self.total.cores), min(share.memory, self.total.memory))

    def _has(self, share: Share) -> bool:
        return share.cores <= self._free.cores and share.memory <= self._free.memory

    def _grant(self) -> None:
        """Admit those that wait, in order, as long as the next one fits."""
        while self._waiting and self._has(self._waiting[0][0]):
            share, turn = self._waiting.popleft()
            if turn.cancelled():
                continue
            self._free = Share(self._free.cores - share.cores, self._free.memory - share.memory)
            turn.set_result(None)

    def _give_back(self, share: Share) -> None:
        self._free = Share(self._free.cores + share.cores, self._free.memory + share.memory)
        self._grant()


def _number(value: Fraction) -> str:
    return f"{float(value):g}"


def _megabytes(value: Fraction) -> str:
    return str(int(value / _MEBIBYTE))


def _amount(text: str) -> Fraction:
    try:
        return max(Fraction(0), parse_quantity(text))
    except ValueError:
        return Fraction(0)
