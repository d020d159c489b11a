"""The workflow and the launch plan that the registry generates to run a single task (registry.md#generated-entities).

Both are built from the task alone, byte for byte the same every time, so concurrent requests generate the same. Roles
and security context of an execution stay with that execution: if the launch plan had those of the first caller, all
other callers would run with them.
"""

import re
from collections.abc import Iterable

from flyteidl.admin.launch_plan_pb2 import LaunchPlanCreateRequest, LaunchPlanSpec
from flyteidl.admin.workflow_pb2 import WorkflowCreateRequest
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.core.literals_pb2 import Binding, BindingData, RetryStrategy
from flyteidl.core.tasks_pb2 import TaskMetadata, TaskTemplate
from flyteidl.core.types_pb2 import OutputReference
from flyteidl.core.workflow_pb2 import Node, NodeMetadata, TaskNode, WorkflowTemplate

from services.contracts.identifiers import GENERATED_PREFIX
from services.registry.compiler.graph import END_NODE, START_NODE

# For a task that sets no retries.
DEFAULT_RETRIES = 3
# Node ids become parts of Kubernetes labels.
_MAX_NODE_ID_CHARACTERS = 63
_NOT_IN_NODE_IDS = re.compile(r"[^a-zA-Z0-9-]")
# For a task whose name has no character that a node id may have, or is the id of one of the compiler's own nodes.
_FALLBACK_NODE_ID = "task"
_UNUSABLE_NODE_IDS = ("", START_NODE, END_NODE)


def generated_workflow(task: TaskTemplate) -> WorkflowCreateRequest:
    """Return the registration of the workflow that runs the registered `task` alone."""
    identifier = _generated_identifier(task.id, ResourceType.WORKFLOW)
    node = _node(task)
    template = WorkflowTemplate(
        id=identifier,
        interface=task.interface,
        nodes=[node],
        outputs=_bindings(task.interface.outputs.variables, node.id),
    )
    request = WorkflowCreateRequest(id=identifier)
    request.spec.template.CopyFrom(template)
    return request


def generated_launch_plan(task: Identifier) -> LaunchPlanCreateRequest:
    """Return the registration of the launch plan for the generated workflow of `task`.

    Its workflow id has the name of the task, as clients expect; the workflow itself has the name of the launch plan.
    Defaults are completed as for every launch plan (registry.md#expected-inputs).
    """
    spec = LaunchPlanSpec(workflow_id=_identifier(task, ResourceType.WORKFLOW, task.name))
    spec.entity_metadata.SetInParent()
    spec.default_inputs.SetInParent()
    spec.fixed_inputs.SetInParent()
    spec.labels.SetInParent()
    spec.annotations.SetInParent()
    return LaunchPlanCreateRequest(id=_generated_identifier(task, ResourceType.LAUNCH_PLAN), spec=spec)


def _generated_identifier(task: Identifier, resource_type: ResourceType) -> Identifier:
    return _identifier(task, resource_type, GENERATED_PREFIX + task.name)


def _identifier(task: Identifier, resource_type: ResourceType, name: str) -> Identifier:
    return Identifier(
        resource_type=resource_type, project=task.project, domain=task.domain, name=name, version=task.version
    )


def _node(task: TaskTemplate) -> Node:
    name = _NOT_IN_NODE_IDS.sub("", task.id.name[-_MAX_NODE_ID_CHARACTERS:])
    if name in _UNUSABLE_NODE_IDS:
        name = _FALLBACK_NODE_ID
    return Node(
        id=name,
        metadata=_node_metadata(name, task.metadata),
        inputs=_bindings(task.interface.inputs.variables, ""),
        task_node=TaskNode(reference_id=task.id),
    )


def _node_metadata(name: str, task: TaskMetadata) -> NodeMetadata:
    """Return what engines read from the node only, not from its task; caching they read from the task."""
    metadata = NodeMetadata(name=name, retries=RetryStrategy(retries=DEFAULT_RETRIES))
    if task.HasField("retries"):
        metadata.retries.CopyFrom(task.retries)
    if task.HasField("timeout"):
        metadata.timeout.CopyFrom(task.timeout)
    if task.HasField("interruptible"):  # also when false
        metadata.interruptible = task.interruptible
    return metadata


def _bindings(variables: Iterable[str], source: str) -> list[Binding]:
    """Return bindings of `variables` to variables of the same names of node `source`; "" is the workflow's input."""
    return [
        Binding(var=name, binding=BindingData(promise=OutputReference(node_id=source, var=name)))
        for name in sorted(variables)
    ]
