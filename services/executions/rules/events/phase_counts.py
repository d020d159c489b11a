"""How many nodes and tasks of an execution are in each phase, kept with every event that moves one.

So a summary of a run with ten thousand nodes costs one row. Phases are told by their names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flyteidl.core.execution_pb2 import NodeExecution, TaskExecution

_NODE_PHASES = {number: name for name, number in NodeExecution.Phase.items()}
_TASK_PHASES = {number: name for name, number in TaskExecution.Phase.items()}


@dataclass
class PhaseCounts:
    """The counts of one execution; no phase with a count of 0 is in them."""

    nodes: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, int] = field(default_factory=dict)

    def move_node(self, before: int | None, after: int) -> None:
        """Count a node that went from the phase `before` (None for a new one) to `after`."""
        _move(self.nodes, _NODE_PHASES, before, after)

    def move_task(self, before: int | None, after: int) -> None:
        """Count an attempt of a task that went from the phase `before` (None for a new one) to `after`."""
        _move(self.tasks, _TASK_PHASES, before, after)


def _move(counts: dict[str, int], names: Mapping[int, str], before: int | None, after: int) -> None:
    arrived = _name(names, after)
    counts[arrived] = counts.get(arrived, 0) + 1
    if before is not None:
        left = _name(names, before)
        counts[left] = counts.get(left, 0) - 1
        if not counts[left]:
            del counts[left]


def _name(names: Mapping[int, str], phase: int) -> str:
    return names.get(phase, str(phase))
