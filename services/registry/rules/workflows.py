"""Checks of workflows around the compiler (registry.md#createworkflow-steps)."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from flyteidl.admin.launch_plan_pb2 import LaunchPlan
from flyteidl.admin.task_pb2 import Task
from flyteidl.admin.workflow_pb2 import Workflow, WorkflowSpec
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import Identifier

from services.contracts.identifiers import identifier_text
from services.kit.errors import InvalidArgument, ServiceError
from services.registry.compiler import CompilationFailed, Requirements, compile_workflow, requirements

# All tasks and launch plans that a workflow refers to, which are parsed and copied with it. A second or two of that;
# tasks have some kilobytes.
MAX_LIBRARY_BYTES = 16 * 1024 * 1024
# Variables of interfaces and tags of a workflow and its sub-workflows, each of which counts as one more. Entries of
# maps take long to parse, copy and serialize: 150,000 took seconds, in steps that let no other call pass.
MAX_ENTRIES = 25_000


@dataclass(frozen=True)
class WorkflowLimits:
    """The most nodes of a workflow and the most bytes of its compiled form; 0 is no limit."""

    nodes: int
    closure_bytes: int


def check_spec(spec: WorkflowSpec | None) -> None:
    """Raise InvalidArgument unless there is a template to compile, whose maps have no more entries than they may."""
    if spec is None or not spec.HasField("template"):
        raise InvalidArgument("missing spec")
    entries = 0
    for template in chain((spec.template,), spec.sub_workflows):
        interface = template.interface
        entries += 1 + len(interface.inputs.variables) + len(interface.outputs.variables) + len(template.metadata.tags)
        if entries > MAX_ENTRIES:
            raise InvalidArgument(f"interfaces and tags of the workflow cannot exceed {MAX_ENTRIES} entries")


def requirements_of(spec: WorkflowSpec) -> Requirements:
    """Return what `spec` requires to be registered; raise InvalidArgument."""
    try:
        return requirements(spec.template, spec.sub_workflows)
    except CompilationFailed as error:
        raise InvalidArgument(f"failed to get workflow requirements with err {error}") from error


def compile_spec(
    spec: WorkflowSpec, needed: Requirements, tasks: Iterable[bytes], launch_plans: Iterable[bytes]
) -> CompiledWorkflowClosure:
    """Return the compiled form of `spec` with what it needs; raise InvalidArgument with all errors.

    Args:
        spec: The workflow, with its sub-workflows.
        needed: What `requirements_of` returned.
        tasks: The serialized admin.Task of each task of `needed`.
        launch_plans: The serialized admin.LaunchPlan of each launch plan of `needed`.
    """
    compiled = [Task.FromString(task).closure.compiled_task for task in tasks]
    plans = [LaunchPlan.FromString(plan) for plan in launch_plans]
    for plan, identifier in zip(plans, needed.launch_plans, strict=True):
        # A reference may have an organisation or no type, a stored id has no organisation and a type.
        plan.id.CopyFrom(identifier)
    try:
        return compile_workflow(spec.template, spec.sub_workflows, compiled, plans)
    except CompilationFailed as error:
        raise InvalidArgument(str(error)) from error


def uncompilable(workflow: Identifier, error: ServiceError) -> InvalidArgument:
    """Return the caller's error for any failure to compile, a missing dependency included.

    Never NotFound: clients would apply it to the workflow itself.
    """
    return InvalidArgument(f"failed to compile workflow for [{identifier_text(workflow)}] with err: {error.message}")


def check_library_size(size: int) -> None:
    """Raise InvalidArgument when the tasks and launch plans of a workflow have too many bytes to be compiled."""
    if size > MAX_LIBRARY_BYTES:
        raise InvalidArgument(f"its tasks and launch plans have {size} bytes together, more than {MAX_LIBRARY_BYTES}")


def check_size(size: int, limits: WorkflowLimits) -> None:
    """Raise InvalidArgument unless a compiled workflow of `size` bytes is within `limits`."""
    if limits.closure_bytes and size > limits.closure_bytes:
        raise InvalidArgument(f"Workflow closure size exceeds max limit [{limits.closure_bytes} bytes]")


def check_nodes(workflow: Identifier, spec: WorkflowSpec, limits: WorkflowLimits) -> None:
    """Raise InvalidArgument when there are more nodes than `limits` allow.

    Checked before compilation, which takes seconds for a workflow that is far too large.
    """
    nodes = len(spec.template.nodes)
    if limits.nodes and nodes > limits.nodes:
        raise InvalidArgument(
            f"number of nodes in workflow [{identifier_text(workflow)}] exceeds limit ({nodes} > {limits.nodes})"
        )


def listed_workflow(workflow: Identifier, spec: WorkflowSpec) -> Workflow:
    """Return what lists contain of a new workflow, without the time of its registration (registry.md#stored-workflow).

    Its closure has the interface only, as the client sent it; an absent one becomes empty.
    """
    key = Identifier()
    key.CopyFrom(workflow)
    key.ClearField("org")
    listed = Workflow(id=key, short_description=spec.description.short_description)
    listed.closure.compiled_workflow.primary.template.interface.CopyFrom(spec.template.interface)
    return listed
