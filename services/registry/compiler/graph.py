"""Depth-first search in graphs of clients, and the connections of a workflow (compiler.md#graph-checks).

The search does not recurse, as clients decide the depth, and follows each edge once.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from flyteidl.core.compiler_pb2 import ConnectionSet

from services.registry.compiler.errors import Code, Errors

START_NODE = "start-node"
END_NODE = "end-node"

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class Walk(Generic[T]):
    """The result of a walk: all that was reached, in postorder, and the first cycle, whose ends are equal."""

    finished: list[T]
    cycle: list[T]


def walk(starts: Iterable[T], neighbours: Callable[[T], Iterable[T]]) -> Walk[T]:
    """Walk depth first from `starts`, in their order and that of `neighbours`, to the end or the first cycle."""
    finished: dict[T, None] = {}
    for start in starts:
        path: dict[T, Iterator[T]] = {}
        current = start
        while current not in finished:
            if current not in path:
                path[current] = iter(neighbours(current))
            following = next((other for other in path[current] if other not in finished), None)
            if following is None:
                finished[current] = None
                del path[current]
                current = next(reversed(path), start)
            elif following in path:
                members = list(path)
                return Walk(list(finished), [*members[members.index(following) :], following])
            else:
                current = following
    return Walk(list(finished), [])


class Connections:
    """The edges between nodes, in both directions (compiler.md#edges).

    Nodes inside branches and failure nodes have upstream edges only.
    """

    def __init__(self) -> None:
        self._downstream: defaultdict[str, set[str]] = defaultdict(set)
        self._upstream: defaultdict[str, set[str]] = defaultdict(set)

    def add(self, upstream: str, downstream: str) -> None:
        """Connect two nodes of the workflow."""
        self._downstream[upstream].add(downstream)
        self.add_upstream(upstream, downstream)

    def add_upstream(self, upstream: str, downstream: str) -> None:
        """Connect a node inside a branch, or a failure node, to a node that it waits for."""
        self._upstream[downstream].add(upstream)

    def connect_loose_ends(self, node_ids: Iterable[str]) -> None:
        """Connect nodes without upstream to the start, and those without downstream to the end."""
        for node_id in node_ids:
            if node_id not in self._upstream:
                self.add(START_NODE, node_id)
            if node_id not in self._downstream:
                self.add(node_id, END_NODE)

    def check(self, node_ids: Iterable[str], errors: Errors) -> None:
        """Collect an error for a cycle that can be reached, or else for nodes that cannot be.

        A cycle that cannot be reached is reported as unreachable nodes.
        """
        result = walk([START_NODE], lambda node_id: sorted(self._downstream.get(node_id, ())))
        if result.cycle:
            errors.add(
                Code.CYCLE_DETECTED,
                START_NODE,
                f"A cycle has been detected while traversing the Workflow [{'>'.join(result.cycle)}].",
            )
        elif unreachable := sorted(set(node_ids) - set(result.finished)):
            errors.add(
                Code.UNREACHABLE_NODES,
                START_NODE,
                f"The Workflow contain unreachable nodes [{','.join(unreachable)}].",
            )

    def compiled(self) -> ConnectionSet:
        """Return the message, with ids sorted."""
        connections = ConnectionSet()
        for node_id, following in sorted(self._downstream.items()):
            connections.downstream[node_id].ids.extend(sorted(following))
        for node_id, preceding in sorted(self._upstream.items()):
            connections.upstream[node_id].ids.extend(sorted(preceding))
        return connections
