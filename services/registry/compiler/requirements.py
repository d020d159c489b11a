"""What a workflow refers to: tasks, launch plans and sub-workflows (compiler.md#requirements).

Nothing here recurses: the client decides how deep branches and sub-workflows are nested.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from flyteidl.core.identifier_pb2 import Identifier
from flyteidl.core.workflow_pb2 import Node, WorkflowTemplate

from services.contracts.identifiers import IdentifierKey, identifier_text, key_of
from services.registry.compiler.errors import ROOT, Code, Errors
from services.registry.compiler.graph import START_NODE, walk

# Nodes of a workflow and its sub-workflows, which count as one, too. Two bytes are enough for one in a request, and it
# costs some 50 microseconds to compile.
MAX_NODES = 25_000


@dataclass(frozen=True)
class Requirements:
    """Unique identifiers, sorted by type, project, domain, name and version."""

    tasks: Sequence[Identifier]
    launch_plans: Sequence[Identifier]


@dataclass(frozen=True)
class References:
    """Everything that one template itself refers to; each sub-workflow with the ids of the nodes that refer to it."""

    tasks: Mapping[IdentifierKey, Identifier]
    launch_plans: Mapping[IdentifierKey, Identifier]
    sub_workflows: Mapping[IdentifierKey, tuple[Identifier, Sequence[str]]]


def requirements(template: WorkflowTemplate, sub_workflows: Sequence[WorkflowTemplate]) -> Requirements:
    """Return what `template` and the sub-workflows that it reaches refer to.

    A missing sub-workflow is not an error here: `compile_workflow` reports it together with other errors.

    Raises:
        CompilationFailed: A sub-workflow has no id or that of another, or contains itself.
    """
    errors = Errors()
    if _has_too_many_nodes(template, sub_workflows):
        errors.invalid_value(ROOT, f"workflow: it has more than {MAX_NODES} nodes")
        errors.raise_any()
    index = index_by_id(sub_workflows, errors)
    errors.raise_any()
    reached = reachable(template, index, errors)
    errors.raise_any()
    return required([references(template), *(references(index[key]) for key in reached)])


def _has_too_many_nodes(template: WorkflowTemplate, sub_workflows: Sequence[WorkflowTemplate]) -> bool:
    if len(template.nodes) + sum(1 + len(each.nodes) for each in sub_workflows) > MAX_NODES:
        return True
    for count, node in enumerate(chain.from_iterable(map(every_node, (template, *sub_workflows)))):
        # The nodes of the cases come next; making a list of them would take a second.
        if count + len(sub_workflows) >= MAX_NODES or len(node.branch_node.if_else.other) > MAX_NODES:
            return True
    return False


def required(all_references: Iterable[References]) -> Requirements:
    """Return the union of what several templates refer to."""
    tasks: dict[IdentifierKey, Identifier] = {}
    launch_plans: dict[IdentifierKey, Identifier] = {}
    for of_template in all_references:
        tasks.update(of_template.tasks)
        launch_plans.update(of_template.launch_plans)
    return Requirements(
        tasks=[tasks[key] for key in sorted(tasks)],
        launch_plans=[launch_plans[key] for key in sorted(launch_plans)],
    )


def index_by_id(sub_workflows: Iterable[WorkflowTemplate], errors: Errors) -> dict[IdentifierKey, WorkflowTemplate]:
    """Return the sub-workflows by id; collect an error for each that has no id or that of another."""
    index: dict[IdentifierKey, WorkflowTemplate] = {}
    for sub_workflow in sub_workflows:
        key = key_of(sub_workflow.id)
        if not sub_workflow.HasField("id"):
            errors.value_required(ROOT, "sub_workflow Template.Id")
        elif key in index:
            errors.add(
                Code.DUPLICATE_ID,
                identifier_text(sub_workflow.id),
                "Trying to insert two sub-workflows with the same id.",
            )
        else:
            index[key] = sub_workflow
    return index


def references(template: WorkflowTemplate) -> References:
    """Return what the nodes of `template` refer to, including nodes inside branches and arrays and the failure node."""
    tasks: dict[IdentifierKey, Identifier] = {}
    launch_plans: dict[IdentifierKey, Identifier] = {}
    sub_workflows: dict[IdentifierKey, tuple[Identifier, list[str]]] = {}
    for node in every_node(template):
        target = node.WhichOneof("target")
        if target == "task_node" and node.task_node.HasField("reference_id"):
            tasks[key_of(node.task_node.reference_id)] = node.task_node.reference_id
        elif target == "workflow_node" and node.workflow_node.HasField("launchplan_ref"):
            launch_plans[key_of(node.workflow_node.launchplan_ref)] = node.workflow_node.launchplan_ref
        elif target == "workflow_node" and node.workflow_node.HasField("sub_workflow_ref"):
            reference = node.workflow_node.sub_workflow_ref
            sub_workflows.setdefault(key_of(reference), (reference, []))[1].append(node.id)
    return References(tasks, launch_plans, sub_workflows)


def every_node(template: WorkflowTemplate) -> Iterator[Node]:
    """Yield the nodes of `template`, then its failure node, each followed by the nodes inside it."""
    pending = [*([template.failure_node] if template.HasField("failure_node") else []), *reversed(template.nodes)]
    while pending:
        node = pending.pop()
        yield node
        pending.extend(reversed(inner_nodes(node)))


def inner_nodes(node: Node) -> list[Node]:
    """Return the nodes directly inside `node`: the cases of a branch in order, or the node of an array."""
    target = node.WhichOneof("target")
    if target == "array_node" and node.array_node.HasField("node"):
        return [node.array_node.node]
    return case_nodes(node) if target == "branch_node" else []


def case_nodes(branch: Node) -> list[Node]:
    """Return the nodes of a branch node's cases in order, the default last, without missing ones."""
    if_else = branch.branch_node.if_else
    nodes = [block.then_node for block in (if_else.case, *if_else.other) if block.HasField("then_node")]
    return [*nodes, if_else.else_node] if if_else.HasField("else_node") else nodes


def reachable(
    template: WorkflowTemplate, index: Mapping[IdentifierKey, WorkflowTemplate], errors: Errors
) -> list[IdentifierKey]:
    """Return the sub-workflows that `template` reaches, those inside others first.

    Collect CycleDetected for a sub-workflow that contains itself: its execution would never end.
    """

    def referred(by: WorkflowTemplate) -> list[IdentifierKey]:
        return [key for key in references(by).sub_workflows if key in index]

    result = walk(referred(template), lambda key: referred(index[key]))
    if result.cycle:
        path = ">".join(index[key].id.name for key in result.cycle)
        errors.add(
            Code.CYCLE_DETECTED, START_NODE, f"A cycle has been detected while traversing the Workflow [{path}]."
        )
    return result.finished
