"""What a run needs of its state machine and its journal, and what it shows of itself."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from deploy.sandbox.engine.graph.inputs import Input
from deploy.sandbox.engine.graph.interface import Action


class StateMachine(Protocol):
    """What a run needs of `graph.execution.Execution`."""

    @property
    def wake_at(self) -> datetime | None:
        """When `TimePassed` is to be passed in."""

    def handle(self, value: Input, at: datetime) -> Iterable[Action]:
        """Take an input and return what is to be done."""


class Journal(Protocol):
    """Where a run writes its inputs."""

    def append(self, value: Input, at: datetime) -> None:
        """Write an input and its time."""

    def close(self) -> None:
        """Close the journal."""


@dataclass
class Progress:
    """What a run is doing, for people."""

    started_at: datetime
    tasks_running: int = 0
    tasks_waiting: int = 0
    tasks_ended: int = 0
    ended_as: str = ""
