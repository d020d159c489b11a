"""A part of the stack: its process, the steps before it, and the check that it is ready.

Plain data. The supervisor needs nothing else about the parts it runs, so tests pass it parts of their own.
"""

import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.sandbox.ready import Check

# Services drain within 10 s of SIGTERM; a part that takes longer than this hangs.
STOP_SECONDS = 12.0


@dataclass(frozen=True)
class Stamp:
    """A file with the input for which a step was last done."""

    path: Path
    value: str

    @property
    def fresh(self) -> bool:
        """Whether the step was done for this input."""
        try:
            return self.path.read_text() == self.value
        except FileNotFoundError:
            return False

    def set(self) -> None:
        """Store that the step is done."""
        self.path.write_text(self.value)


@dataclass(frozen=True)
class Step:
    """A command that must succeed before its part starts; runs before every start unless its stamp is fresh."""

    command: tuple[str, ...]
    stamp: Stamp | None = None


@dataclass(frozen=True)
class Part:
    """A process of the stack."""

    name: str
    command: tuple[str, ...]
    is_ready: Check
    problem: Callable[[], Awaitable[str]] | None = None
    """Returns why the part is not ready, as it reports itself; an empty text when it is ready."""
    broken: Check | None = None
    """Whether only a restart can make it work again although it runs; the supervisor restarts it then."""
    data: Path | None = None
    """The folder it writes to; `status` reports that its disk is full."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment that every part inherits; also that of the steps."""
    files: Mapping[Path, str] = field(default_factory=dict)
    """Configuration, written before every start, for its owner only."""
    steps: tuple[Step, ...] = ()
    """Run one after the other before every start."""
    needs: tuple[str, ...] = ()
    """Parts that must be ready before the first start of this one; a restart does not wait for them. When the stack
    stops, this part stops before them."""
    stops_before: tuple[str, ...] = ()
    """Further parts before which this one stops. Its start does not wait for them."""
    drain: Callable[[], Awaitable[None]] | None = None
    """Awaited before the stop signal; must end by itself."""
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    """What the kernel sends it when the supervisor was killed. It must end the process in any case."""
    drop_root: bool = False
    """Run as an ordinary user when the sandbox is run by root."""
