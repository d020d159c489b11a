"""Compiled workflows as an engine reads them."""

from collections.abc import Sequence

from flyteidl.core.compiler_pb2 import CompiledTask, CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import Identifier
from flyteidl.core.workflow_pb2 import Node

BOUNDARY = ("start-node", "end-node")


def ordered(nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes between start and end, each after what it depends on; raise ValueError for a cycle."""
    waiting = {node.id: node for node in nodes if node.id not in BOUNDARY}
    result: list[Node] = []
    while waiting:
        ready = [node for node in waiting.values() if not _upstream(node) & waiting.keys()]
        if not ready:
            raise ValueError("the graph has a cycle")
        result += ready
        for node in ready:
            del waiting[node.id]
    return result


def _upstream(node: Node) -> set[str]:
    found = set(node.upstream_node_ids)
    waiting = [binding.binding for binding in node.inputs]
    while waiting:
        data = waiting.pop()
        if data.HasField("promise"):
            found.add(data.promise.node_id)
        waiting += data.collection.bindings
        waiting += data.map.bindings.values()
    return found


def task_of(closure: CompiledWorkflowClosure, identifier: Identifier) -> CompiledTask:
    """Return the task `identifier` of `closure`; raise LookupError."""
    for task in closure.tasks:
        if task.template.id == identifier:
            return task
    raise LookupError(f"the closure holds no task {identifier.name}")
