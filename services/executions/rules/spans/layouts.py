"""What spans need of a compiled workflow: for each node that was executed, its kind and the node that it waited for.

Closures come from clients: parsed, one takes up to twenty times its bytes, and the nodes of a dynamic node may be
dynamic again. So a closure is read once, for all executed nodes that it describes, and then dropped. A layout is as
large as these nodes are many.
"""

from collections.abc import Iterable, Iterator, Mapping

from flyteidl.core.compiler_pb2 import CompiledWorkflow, CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import Identifier
from flyteidl.core.workflow_pb2 import BranchNode, WorkflowNode
from flyteidl.core.workflow_pb2 import Node as NodeTemplate

from services.executions.rules.spans.forms import nanoseconds
from services.executions.rules.spans.requests import LaidOutNode, Layout, Node, Run

START, END = "start-node", "end-node"
# A client cannot parse messages that are nested more than 100 levels; the response itself is one.
MOST_LEVELS = 95


def layout(closure: CompiledWorkflowClosure, run: Run, parent: int | None) -> Layout:
    """Return the layout of the nodes of `run` whose parent has the row id `parent`; their workflow is `closure`."""
    compiled = _Closure(closure, run)
    return compiled.layout(_Workflow(closure.primary, run), by_spec_id(run.nodes.get(parent, ())), 0)


def by_spec_id(nodes: Iterable[Node]) -> dict[str, Node]:
    """Return nodes by their id in the workflow."""
    return {node.spec_id: node for node in nodes}


class _Workflow:
    """A workflow with its executed nodes by id, and the ids that each waits for with their order."""

    def __init__(self, compiled: CompiledWorkflow, run: Run) -> None:
        self.templates = _Templates(compiled.template.nodes, run.spec_ids)
        self._executed = run.spec_ids
        self._upstream = compiled.connections.upstream
        self._orders: dict[str, dict[str, int]] = {}

    def latest_upstream(self, nodes: Mapping[str, Node], spec_id: str) -> Node | None:
        """Return the node before `spec_id` that was updated last, the first one of several."""
        if spec_id not in self._orders:
            self._orders[spec_id] = self._order(spec_id)
        order = self._orders[spec_id]
        # Of the two the shorter one is read: a workflow with many edges may have run many times.
        before = nodes.keys() & order.keys()
        latest = max(before, key=lambda node: (nanoseconds(nodes[node].closure.updated_at), -order[node]), default=None)
        return None if latest is None else nodes[latest]

    def _order(self, spec_id: str) -> dict[str, int]:
        order: dict[str, int] = {}
        for at, node_id in enumerate(self._upstream[spec_id].ids if spec_id in self._upstream else ()):
            if node_id in self._executed:
                order.setdefault(node_id, at)
        return order


class _Templates(dict[str, NodeTemplate]):
    """Templates of executed nodes by id; the alternatives of each branch among them are indexed once."""

    def __init__(self, templates: Iterable[NodeTemplate], executed: frozenset[str]) -> None:
        super().__init__((template.id, template) for template in templates if template.id in executed)
        self._executed = executed
        self._alternatives: dict[str, _Templates] = {}

    def alternatives(self, branch: str) -> "_Templates":
        """Return the nodes in the cases of a branch; the first one of several with one id."""
        if branch not in self._alternatives:
            cases = list(_alternatives(self[branch].branch_node))
            self._alternatives[branch] = _Templates(reversed(cases), self._executed)
        return self._alternatives[branch]


class _Closure:
    """The workflows of a closure, each indexed once: many nodes may run the same one."""

    def __init__(self, closure: CompiledWorkflowClosure, run: Run) -> None:
        self._closure = closure
        self._run = run
        self._sub_workflows: dict[bytes, CompiledWorkflow] | None = None
        self._workflows: dict[bytes, _Workflow] = {}

    def layout(self, workflow: _Workflow, nodes: Mapping[str, Node], level: int) -> Layout:
        """Return the layout of `nodes`, which are those of one run of `workflow`."""
        ordered = sorted(nodes.items(), key=lambda item: nanoseconds(item[1].closure.created_at))
        return Layout(
            [
                self._node(node, spec_id, workflow.templates, workflow.latest_upstream(nodes, spec_id), level)
                for spec_id, node in ordered
                if spec_id not in {START, END}
            ],
            workflow.latest_upstream(nodes, END),
        )

    def _node(self, node: Node, spec_id: str, templates: _Templates, before: Node | None, level: int) -> LaidOutNode:
        template = templates.get(spec_id)
        kind = template.WhichOneof("target") if template is not None else None
        if template is None or kind is None or level > MOST_LEVELS:  # the spans end here, or cannot be built
            return LaidOutNode(node, kind or "", before)
        if kind == "workflow_node":
            return self._workflow_node(node, template.workflow_node, before, level)
        children = self._run.nodes.get(node.row, ())
        if kind != "branch_node" or len(children) != 1:
            return LaidOutNode(node, kind, before)
        (child,) = children
        inside = self._node(child, child.spec_id, templates.alternatives(spec_id), None, level + 1)
        return LaidOutNode(node, kind, before, Layout([inside], None))

    def _workflow_node(self, node: Node, template: WorkflowNode, before: Node | None, level: int) -> LaidOutNode:
        if template.WhichOneof("reference") == "launchplan_ref":
            return LaidOutNode(node, "launch_plan", before)
        reference = template.sub_workflow_ref
        inner = by_spec_id(self._run.nodes.get(node.row, ()))
        if START not in inner:
            return LaidOutNode(node, "sub_workflow", before)
        sub_workflow = self._sub_workflow(reference)
        if sub_workflow is None:
            return LaidOutNode(node, "sub_workflow", before, reference=_copy(reference))
        return LaidOutNode(node, "sub_workflow", before, self.layout(sub_workflow, inner, level + 1))

    def _sub_workflow(self, reference: Identifier) -> _Workflow | None:
        if self._sub_workflows is None:
            self._sub_workflows = {}
            for compiled in self._closure.sub_workflows:
                if compiled.HasField("template"):
                    self._sub_workflows.setdefault(_id(compiled.template.id), compiled)
        key = _id(reference)
        if key not in self._workflows and key in self._sub_workflows:
            self._workflows[key] = _Workflow(self._sub_workflows[key], self._run)
        return self._workflows.get(key)


def _id(identifier: Identifier) -> bytes:
    return identifier.SerializeToString(deterministic=True)


def _copy(identifier: Identifier) -> Identifier:
    """Return a copy, which does not keep the closure in memory as a part of it does."""
    copy = Identifier()
    copy.CopyFrom(identifier)
    return copy


def _alternatives(branch: BranchNode) -> Iterator[NodeTemplate]:
    if_else = branch.if_else
    yield if_else.case.then_node
    yield from (block.then_node for block in if_else.other)
    yield if_else.else_node
