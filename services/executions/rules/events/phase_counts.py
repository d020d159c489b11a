"""The numbers of nodes and tasks of an execution by phase, updated with every event that changes a phase.

So a summary of an execution with ten thousand nodes costs one row. Phases are keyed by their names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flyteidl.core.execution_pb2 import NodeExecution, TaskExecution

_NODE_PHASES = {number: name for name, number in NodeExecution.Phase.items()}
_TASK_PHASES = {number: name for name, number in TaskExecution.Phase.items()}


@dataclass
class PhaseCounts:
    """The counts of one execution; phases with a count of 0 are absent."""

    nodes: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, int] = field(default_factory=dict)

    def count_node_transition(self, before: int | None, after: int) -> None:
        """Count a node that changed from the phase `before` (None for a new one) to `after`."""
        _count_transition(self.nodes, _NODE_PHASES, before, after)

    def count_task_transition(self, before: int | None, after: int) -> None:
        """Count an attempt of a task that changed from the phase `before` (None for a new one) to `after`."""
        _count_transition(self.tasks, _TASK_PHASES, before, after)


def _count_transition(counts: dict[str, int], names: Mapping[int, str], before: int | None, after: int) -> None:
    new = _name(names, after)
    counts[new] = counts.get(new, 0) + 1
    if before is not None:
        old = _name(names, before)
        counts[old] = counts.get(old, 0) - 1
        if not counts[old]:
            del counts[old]


def _name(names: Mapping[int, str], phase: int) -> str:
    return names.get(phase, str(phase))
