"""The nodes of one workflow: their ids, their interfaces and their edges (compiler.md#checks-of-one-workflow)."""

from collections.abc import Iterable, Mapping

from flyteidl.core.types_pb2 import OutputReference
from flyteidl.core.workflow_pb2 import Node, WorkflowTemplate

from services.registry.compiler.bindings import Binder, Source
from services.registry.compiler.branches import (
    MAX_NODE_ID_BYTES,
    check_branch,
    common_outputs,
    innermost,
    missing_part,
    rename_inner,
)
from services.registry.compiler.errors import Code, Errors
from services.registry.compiler.graph import END_NODE, START_NODE, Connections, walk
from services.registry.compiler.interfaces import (
    Interface,
    Library,
    effective_outputs,
    reference_interface,
    repeated,
)
from services.registry.compiler.requirements import case_nodes


class Nodes:
    """The nodes of one template, which is changed: ids inside branches are prefixed, promises get their start node.

    `interface` is that of the workflow itself.
    """

    def __init__(self, template: WorkflowTemplate, interface: Interface, library: Library, errors: Errors) -> None:
        self._template = template
        self._library = library
        self._errors = errors
        self._sources: dict[str, Source] = {
            START_NODE: Source(None, interface.inputs),
            END_NODE: Source(None, {}),
        }
        self._binder = Binder(self._sources, library.comparison)
        self._nodes: dict[str, Node] = {}
        self._interface = interface
        self._has_long_ids = False
        self.connections = Connections()

    def compile(self) -> None:
        """Check and connect the nodes; errors are collected."""
        self._assign_ids()
        # The checks mention ids, and texts of ids that are too long would be copied with each edge.
        if self._has_long_ids:
            self._errors.raise_any()
        failure = self._template.failure_node if self._template.HasField("failure_node") else None
        interfaces = self._interfaces()
        for node_id in sorted(self._nodes):
            self._connect(self._nodes[node_id], interfaces[node_id])
        end = self._template.nodes[1]
        for upstream in self._binder.check(end, self._interface.outputs, self._errors).upstream:
            self.connections.add(upstream, END_NODE)
        if failure is not None and failure.id:
            interface = self._infer(failure, self._errors)
            self._check_inside(failure, interface)
        self.connections.connect_loose_ends(sorted(self._nodes))
        self.connections.check(self._nodes, self._errors)

    def _assign_ids(self) -> None:
        """Give every node its final id, once, and check that no two different nodes have the same one."""
        sent = list(self._template.nodes)[2:]
        failure = [self._template.failure_node] if self._template.HasField("failure_node") else []
        by_id: dict[str, Node | None] = {START_NODE: None, END_NODE: None}
        inner_by_id: dict[str, Node] = {}
        for node in (*sent, *failure):
            if not node.id:
                self._errors.value_required("<node>", "Id")
            elif node.id in by_id:
                self._duplicate(node.id)
            else:
                by_id[node.id] = node
                self._check_length(node)
        self._nodes = {node.id: node for node in sent if by_id.get(node.id) is node}
        for node in (*self._nodes.values(), *failure):
            self._finish(node)
            for inner in rename_inner(node):
                self._finish(inner)
                # Two cases may contain the same node; the request contains it twice then.
                if inner.id in by_id or inner_by_id.setdefault(inner.id, inner) != inner:
                    self._duplicate(inner.id)

    def _finish(self, node: Node) -> None:
        node.upstream_node_ids.sort()
        self._check_length(node)

    def _check_length(self, node: Node) -> None:
        if len(node.id.encode()) > MAX_NODE_ID_BYTES:
            self._has_long_ids = True
            self._errors.invalid_value(f"{node.id[:MAX_NODE_ID_BYTES]}...", "Id")

    def _duplicate(self, node_id: str) -> None:
        self._errors.add(Code.DUPLICATE_ID, node_id, "Trying to insert two nodes with the same id.")

    def _interfaces(self) -> Mapping[str, Interface | None]:
        """Return the interface of every node, None for those without one, which is an error.

        Nodes whose outputs depend on their inputs come after the nodes that these come from, whatever the order in the
        request.
        """
        inferred = {node_id: _type_sources(node) for node_id, node in self._nodes.items() if _depends_on_inputs(node)}
        order = walk(sorted(inferred), lambda node_id: sorted(inferred[node_id] & inferred.keys()))
        if order.cycle:
            path = ">".join(order.cycle)
            self._errors.add(
                Code.CYCLE_DETECTED, START_NODE, f"A cycle has been detected while traversing the Workflow [{path}]."
            )
        interfaces: dict[str, Interface | None] = {}
        for node_id in (*sorted(self._nodes.keys() - inferred.keys()), *order.finished):
            interfaces[node_id] = self._infer(self._nodes[node_id], self._errors)
            self._sources[node_id] = self._source(self._nodes[node_id], interfaces[node_id])
        # Those that depend on their own outputs, or on nodes that do.
        for node_id in sorted(inferred.keys() - interfaces.keys()):
            interfaces[node_id] = None
            self._sources[node_id] = self._source(self._nodes[node_id], None)
        return interfaces

    def _source(self, node: Node, interface: Interface | None) -> Source:
        title = node.metadata.name if node.HasField("metadata") else None
        if interface is None:
            return Source(title, None)
        return Source(title, effective_outputs(node, interface, self._library.comparison, self._errors))

    def _infer(self, node: Node, errors: Errors) -> Interface | None:
        own_errors = errors.child()
        target = node.WhichOneof("target")
        interface: Interface | None
        if target == "branch_node":
            interface = self._branch_interface(node, own_errors)
        elif target == "gate_node" and node.gate_node.WhichOneof("condition") == "approve":
            inputs = self._binder.infer(node, own_errors)
            interface = Interface(inputs, outputs=inputs)
        elif target == "array_node":
            interface = self._array_interface(node, own_errors)
        else:
            interface = reference_interface(node, self._template, self._library, own_errors)
        return None if own_errors else interface

    def _branch_interface(self, branch: Node, errors: Errors) -> Interface | None:
        if (missing := missing_part(branch)) is not None:
            errors.value_required(branch.id, missing)
            return None
        cases = []
        for node in case_nodes(branch):
            interface = self._infer(node, errors)
            if interface is not None:
                cases.append((node.id, interface))
        inputs = self._binder.infer(branch, errors)
        if errors or not cases:
            return None
        return Interface(inputs, common_outputs(cases, self._library.comparison, errors))

    def _array_interface(self, array: Node, errors: Errors) -> Interface | None:
        if not array.array_node.HasField("node"):
            errors.value_required(array.id, "ArrayNode.Node")
            return None
        interface = self._infer(array.array_node.node, errors)
        if interface is None or not array.array_node.is_original_sub_node_interface.value:
            # Clients register a task that an array repeats with the list types of the array.
            return interface
        return repeated(interface, array.array_node.bound_inputs, self._library.comparison)

    def _connect(self, node: Node, interface: Interface | None) -> None:
        """Check a top-level node and connect it in both directions."""
        for upstream in node.upstream_node_ids:
            if upstream and upstream not in self._sources:
                self._errors.no_node(node.id, upstream)
            elif interface is not None:
                self.connections.add(upstream or START_NODE, node.id)
        if interface is not None:
            for upstream in self._binder.check(node, interface.inputs, self._errors).upstream:
                self.connections.add(upstream, node.id)
        self._check_cases(node, interface)

    def _check_inside(self, node: Node, interface: Interface | None) -> None:
        """Check a node inside a branch, or a failure node, and connect it to the nodes that it waits for."""
        if interface is not None:
            effective_outputs(node, interface, self._library.comparison, self._errors)
            for upstream in self._binder.check(node, interface.inputs, self._errors).upstream:
                self.connections.add_upstream(upstream, node.id)
        self._check_cases(node, interface)

    def _check_cases(self, node: Node, interface: Interface | None) -> None:
        if node.WhichOneof("target") != "branch_node":
            return
        check_branch(node, interface, self._library.comparison, self._errors)
        for inner in case_nodes(node):
            inner_interface = self._infer(inner, self._errors)
            self._check_inside(inner, inner_interface)


def _depends_on_inputs(node: Node) -> bool:
    """Return whether the types of the outputs of `node` follow from its inputs."""
    inside = innermost(node)
    return inside.HasField("branch_node") or inside.gate_node.HasField("approve")


def _type_sources(node: Node) -> set[str]:
    """Return the nodes whose outputs decide the types of those of `node`."""
    upstream: set[str] = set()
    pending = [innermost(node)]
    while pending:
        inside = pending.pop()
        if _depends_on_inputs(inside):
            upstream.update(promise.node_id for promise in _promises(inside))
            pending.extend(innermost(case) for case in case_nodes(inside))
    return upstream


def _promises(node: Node) -> Iterable[OutputReference]:
    # Nodes whose outputs depend on their inputs have no lists or maps of promises.
    return (binding.binding.promise for binding in node.inputs if binding.binding.HasField("promise"))
