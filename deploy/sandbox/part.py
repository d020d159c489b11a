"""What a part of the stack is: a process, what must be done before it, and how to tell that it is ready.

Plain data. The supervisor knows nothing else about the parts it runs, so tests hand it parts of their own.
"""

import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.sandbox.ready import Check

# Services drain within 10 s of SIGTERM; whoever takes longer than this hangs.
STOP_SECONDS = 12.0


@dataclass(frozen=True)
class Stamp:
    """A file that remembers for which input a step was last done."""

    path: Path
    value: str

    @property
    def fresh(self) -> bool:
        """Whether the step was done for this very input."""
        try:
            return self.path.read_text() == self.value
        except FileNotFoundError:
            return False

    def set(self) -> None:
        """Remember that the step is done."""
        self.path.write_text(self.value)


@dataclass(frozen=True)
class Step:
    """A command that must have succeeded before its part starts; runs before every start unless its stamp is fresh."""

    command: tuple[str, ...]
    stamp: Stamp | None = None


@dataclass(frozen=True)
class Part:
    """A process of the stack."""

    name: str
    command: tuple[str, ...]
    ready: Check
    wrong: Callable[[], Awaitable[str]] | None = None
    """Tells people what it says is wrong, when it is not ready."""
    broken: Check | None = None
    """Tells that it runs and will not work again by itself, but would after a restart, which it then gets."""
    data: Path | None = None
    """Where it writes; a disk that is full is told."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to what every part inherits; also given to the steps."""
    files: Mapping[Path, str] = field(default_factory=dict)
    """Configuration, written before every start, for its owner only."""
    before: tuple[Step, ...] = ()
    needs: tuple[str, ...] = ()
    """Parts that are ready before this one starts."""
    in_front_of: tuple[str, ...] = ()
    """Parts that may start beside this one, but stop only after it; `needs` stop after it too."""
    drain: Callable[[], Awaitable[None]] | None = None
    """Awaited before the stop signal; must end by itself."""
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    """What the kernel sends it when the supervisor was killed. It must end the process for certain."""
    drop_root: bool = False
    """Run as an ordinary user when the sandbox is run by root."""
