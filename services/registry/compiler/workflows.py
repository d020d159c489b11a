"""Compilation of a workflow and what it requires into a closure (compiler.md#compileworkflow)."""

from collections.abc import Iterable, Mapping, Sequence

from flyteidl.admin.launch_plan_pb2 import LaunchPlan
from flyteidl.admin.workflow_pb2 import Workflow, WorkflowClosure, WorkflowList
from flyteidl.core.compiler_pb2 import CompiledTask, CompiledWorkflow, CompiledWorkflowClosure
from flyteidl.core.workflow_pb2 import Node, WorkflowTemplate
from google.protobuf.message import DecodeError

from services.contracts.casting import Comparison, TypesTooLarge
from services.contracts.identifiers import IdentifierKey, identifier_text, key_of
from services.kit.protobuf.wire import message_field
from services.registry.compiler.errors import ROOT, Code, Errors
from services.registry.compiler.graph import END_NODE, START_NODE
from services.registry.compiler.interfaces import Library, is_own, typed_interface
from services.registry.compiler.nodes import Nodes
from services.registry.compiler.requirements import (
    every_node,
    index_by_id,
    reachable,
    references,
    required,
)

# The most steps that the checks of a workflow may take: nodes, bindings, variables and comparisons of types. A second
# or two; workflows of thousands of nodes need far fewer. Without a bound one request could keep the registry busy for
# hours.
MAX_STEPS = 500_000
# A node costs about as much as so many comparisons of types.
STEPS_PER_NODE = 20


def compile_workflow(
    template: WorkflowTemplate,
    sub_workflows: Sequence[WorkflowTemplate],
    tasks: Sequence[CompiledTask],
    launch_plans: Iterable[LaunchPlan],
) -> CompiledWorkflowClosure:
    """Return the compiled form of `template` with its sub-workflows and the tasks they need.

    Arguments are not changed, and the same arguments always give the same closure (compiler.md#compiled-closure).

    Args:
        template: The primary workflow.
        sub_workflows: All that the request contains.
        tasks: Those that `requirements` returned.
        launch_plans: Those that `requirements` returned; id and closure are read.

    Raises:
        CompilationFailed: Something is wrong with the workflow.
    """
    comparison = Comparison(MAX_STEPS)
    errors = Errors(comparison=comparison)
    closure = _reparsed(template, sub_workflows, tasks, errors)
    library = Library(
        tasks=_tasks_by_id(closure.tasks, errors),
        launch_plans={key_of(plan.id): plan for plan in launch_plans},
        sub_workflows=index_by_id((sub.template for sub in closure.sub_workflows), errors),
        comparison=comparison,
    )
    errors.raise_any()
    try:
        _spend_nodes(closure, comparison)
        reached = _check_references(closure.primary.template, library, errors)
        errors.raise_any()
        _compile_all(closure, reached, library, errors)
    except TypesTooLarge:
        errors.invalid_value(ROOT, "workflow: its nodes, types and bindings are too many to check")
    errors.raise_any()
    return closure


def _spend_nodes(closure: CompiledWorkflowClosure, comparison: Comparison) -> None:
    for workflow in (closure.primary, *closure.sub_workflows):
        for node in every_node(workflow.template):
            comparison.spend(STEPS_PER_NODE + len(node.upstream_node_ids))


def _reparsed(
    template: WorkflowTemplate,
    sub_workflows: Iterable[WorkflowTemplate],
    tasks: Iterable[CompiledTask],
    errors: Errors,
) -> CompiledWorkflowClosure:
    """Parse everything as part of a WorkflowList, the deepest response with closures, and return the closure.

    It is composed of serialized parts: each copy of a map of 200,000 entries would take another fifth of a second.
    """
    parts = [
        (CompiledWorkflowClosure.PRIMARY_FIELD_NUMBER, _compiled(template)),
        *((CompiledWorkflowClosure.SUB_WORKFLOWS_FIELD_NUMBER, _compiled(each)) for each in sub_workflows),
        *((CompiledWorkflowClosure.TASKS_FIELD_NUMBER, task.SerializeToString()) for task in tasks),
    ]
    response = b"".join(message_field(number, part) for number, part in parts)
    for number in (
        WorkflowClosure.COMPILED_WORKFLOW_FIELD_NUMBER,
        Workflow.CLOSURE_FIELD_NUMBER,
        WorkflowList.WORKFLOWS_FIELD_NUMBER,
    ):
        response = message_field(number, response)
    try:
        workflows = WorkflowList.FromString(response).workflows
    except DecodeError:
        errors.invalid_value(ROOT, "workflow: nested too deeply")
        errors.raise_any()
    return workflows[0].closure.compiled_workflow


def _compiled(template: WorkflowTemplate) -> bytes:
    return message_field(CompiledWorkflow.TEMPLATE_FIELD_NUMBER, template.SerializeToString())


def _tasks_by_id(tasks: Iterable[CompiledTask], errors: Errors) -> Mapping[IdentifierKey, CompiledTask]:
    index: dict[IdentifierKey, CompiledTask] = {}
    for task in tasks:
        if task.template.HasField("id"):
            index.setdefault(key_of(task.template.id), task)
        else:
            errors.value_required("task", "Template.Id")
    return index


def _check_references(template: WorkflowTemplate, library: Library, errors: Errors) -> set[IdentifierKey]:
    """Return the sub-workflows that are reached; collect an error for every reference to something missing."""
    reached = reachable(template, library.sub_workflows, errors)
    templates = [template, *(library.sub_workflows[key] for key in reached)]
    for each in templates:
        of_template = references(each)
        for key, (identifier, node_ids) in of_template.sub_workflows.items():
            if key not in library.sub_workflows:
                for node_id in node_ids:
                    errors.no_workflow(node_id, identifier_text(identifier))
        for key, identifier in of_template.launch_plans.items():
            if key not in library.launch_plans and not is_own(identifier, each):
                errors.no_workflow(START_NODE, identifier_text(identifier))
        for key, identifier in of_template.tasks.items():
            if key not in library.tasks:
                errors.add(
                    Code.TASK_REFERENCE_NOT_FOUND,
                    START_NODE,
                    f"Referenced Task [{identifier_text(identifier)}] not found.",
                )
    return set(reached)


def _compile_all(
    closure: CompiledWorkflowClosure, reached: set[IdentifierKey], library: Library, errors: Errors
) -> None:
    workflows = [closure.primary]
    workflows += [sub for sub in closure.sub_workflows if key_of(sub.template.id) in reached]
    needed = required(references(workflow.template) for workflow in workflows)
    for workflow in workflows:
        _compile_one(workflow, library, errors)
    tasks = [library.tasks[key_of(identifier)] for identifier in needed.tasks]
    for task in tasks:
        if task.template.HasField("interface"):
            task.template.interface.inputs.SetInParent()
            task.template.interface.outputs.SetInParent()
    if [key_of(task.template.id) for task in closure.tasks] != [key_of(task.template.id) for task in tasks]:
        del closure.tasks[:]
        closure.tasks.extend(tasks)


def _compile_one(workflow: CompiledWorkflow, library: Library, errors: Errors) -> None:
    """Check one template and complete it in place: start and end nodes, inputs and outputs, connections."""
    template = workflow.template
    if not template.nodes:
        name = identifier_text(template.id)
        errors.add(Code.NO_NODES_FOUND, name, f"Can't find any nodes in workflow [{name}].")
        return
    own_errors = errors.child()
    interface = typed_interface(template.interface, START_NODE, own_errors)
    if own_errors:
        return
    template.interface.inputs.SetInParent()
    template.interface.outputs.SetInParent()
    # Insertions move references; a new list would have copies of all nodes.
    template.nodes.insert(0, Node(id=END_NODE))
    template.nodes.insert(0, Node(id=START_NODE))
    template.nodes[1].inputs.extend(template.outputs)
    nodes = Nodes(template, interface, library, errors)
    nodes.compile()
    del template.outputs[:]
    template.outputs.extend(template.nodes[1].inputs)
    workflow.connections.CopyFrom(nodes.connections.compiled())
