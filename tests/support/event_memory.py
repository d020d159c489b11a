"""A store of events' state in memory: what the listener and PostgreSQL do around the fold, in the plainest way.

It keeps the store's promises: ids are set aside for rows that are missing, and only what is wanted is there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flyteidl.admin.execution_pb2 import ExecutionSpec
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.literals_pb2 import LiteralMap

from services.executions.rules.events.batch import Changes, Event, Rows, fold_batch, wanted
from services.executions.rules.events.state import ExecutionKey, ExecutionState, NodeKey, TaskKey
from services.executions.rules.events.storage import Storage
from services.kit.errors import ServiceError
from tests.support.event_makers import STORAGE, execution_state
from tests.support.event_model_checks import OK, Answer
from tests.support.plain import Plain, plain


class Memory:
    """Rows of executions, nodes and tasks, and the objects that they name."""

    def __init__(
        self, cluster: str = "", executions: Iterable[ExecutionState] = (), storage: Storage = STORAGE
    ) -> None:
        known = [*executions] or [execution_state(cluster=cluster)]
        self.rows = Rows(executions={state.key: state for state in known})
        self.objects: dict[str, bytes] = {}
        self._storage = storage
        self._last_id = 0

    def take(self, events: Sequence[Event | ServiceError]) -> Changes:
        """Fold a batch and keep what it changed."""
        need = wanted(events)
        kept = self.rows
        rows = Rows(
            {
                key: state if need.executions[key] else replace(state, spec=b"")
                for key, state in kept.executions.items()
                if key in need.executions
            },
            {key: state.cluster for key, state in kept.executions.items() if key in need.mentioned},
            {key: state for key, state in kept.nodes.items() if need.nodes.get(key)},
            {key: number for key, number in kept.node_ids.items() if key in need.nodes},
            {key: state for key, state in kept.tasks.items() if need.tasks.get(key)},
            {key: number for key, number in kept.task_ids.items() if key in need.tasks},
            [self._next() for key, state in need.nodes.items() if state and key not in kept.node_ids],
            [self._next() for key, state in need.tasks.items() if state and key not in kept.task_ids],
        )
        changes = fold_batch(events, rows, self._storage)
        assert not changes.new_nodes.keys() & kept.node_ids.values()
        assert changes.nodes.keys() <= set(kept.node_ids.values())
        assert changes.tasks.keys() <= set(kept.task_ids.values())
        self.objects |= {offload.uri: offload.data for offload in changes.offloads}
        for key, execution in changes.executions.items():
            kept.executions[key] = replace(execution, spec=execution.spec or kept.executions[key].spec)
        for number, node in (changes.new_nodes | changes.nodes).items():
            kept.nodes[node.key], kept.node_ids[node.key] = node, number
        for number, task in (changes.new_tasks | changes.tasks).items():
            kept.tasks[task.key], kept.task_ids[task.key] = task, number
        return changes

    def _next(self) -> int:
        self._last_id += 1
        return self._last_id

    def executions(self) -> dict[str, Plain]:
        """Executions as `tests.support.event_model` tells of them; so are nodes and tasks."""
        return {
            _text(key): {
                "cluster": state.cluster,
                "closure": plain(state.closure),
                "spec": plain(ExecutionSpec.FromString(state.spec)),
            }
            for key, state in self.rows.executions.items()
        }

    def nodes(self) -> dict[str, Plain]:
        """Nodes; their parents by name."""
        nodes = _names(self.rows.node_ids)
        tasks = _names(self.rows.task_ids)
        return {
            _text(key): {
                "closure": plain(state.closure),
                "metadata": plain(state.metadata),
                "input_uri": state.input_uri,
                "parent": nodes.get(state.parent_id, ""),
                "parent_task": tasks.get(state.parent_task_id, ""),
                "dynamic": self._dynamic(state.dynamic_closure_uri),
                "event_version": state.event_version,
            }
            for key, state in self.rows.nodes.items()
        }

    def tasks(self) -> dict[str, Plain]:
        """Attempts, with their external resources in their closures as clients see them."""
        return {
            _text(key): {"closure": plain(state.closure), "input_uri": state.input_uri, "version": state.phase_version}
            for key, state in self.rows.tasks.items()
        }

    def data(self) -> dict[str, Plain]:
        """Inputs and outputs that came inline, by URI."""
        return {uri: plain(LiteralMap.FromString(data)) for uri, data in self.objects.items() if "/dynamic/" not in uri}

    def _dynamic(self, uri: str) -> Plain:
        return plain(CompiledWorkflowClosure.FromString(self.objects[uri])) if uri else {}


def answer(error: ServiceError | None) -> Answer:
    """What the sender of an event is told, as the model puts it."""
    if error is None:
        return OK
    reasons = [plain(detail) for detail in error.details]
    return error.code.name, reasons[0] if reasons else {}


def _names(ids: Mapping[Any, int]) -> dict[int | None, str]:
    return {number: _text(key) for key, number in ids.items()}


def _text(key: ExecutionKey | NodeKey | TaskKey) -> str:
    """The parts of a key, as a path."""
    return "/".join(_text(part) if isinstance(part, tuple) else str(part) for part in key)
