"""The workflow and the launch plan that the registry makes up so that a single task can run (registry.md 12).

Both are built from the task alone, byte for byte the same every time, so that two requests that make them at once
agree. What the caller of an execution grants (roles, security context) stays with that execution: a launch plan that
kept the first caller's would lend them to everybody.
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

# What a task gets that says nothing about retries.
DEFAULT_RETRIES = 3
# Node ids become parts of Kubernetes labels.
_MAX_NODE_ID_CHARACTERS = 63
_NOT_IN_NODE_IDS = re.compile(r"[^a-zA-Z0-9-]")
# For a task whose name has no character that a node id may have, or is what the compiler calls nodes of its own.
_FALLBACK_NODE_ID = "task"
_UNUSABLE_NODE_IDS = ("", START_NODE, END_NODE)


def generated_workflow(task: TaskTemplate) -> WorkflowCreateRequest:
    """Return the registration of the workflow that runs nothing but `task`, a registered one."""
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

    Its workflow id names the bare task, as clients are used to see it; the workflow meant is the one whose name is the
    launch plan's own. Defaults are completed as for every launch plan (registry.md 7.3).
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
    """Return what engines read from a node and never from its task; caching they read from the task."""
    metadata = NodeMetadata(name=name, retries=RetryStrategy(retries=DEFAULT_RETRIES))
    if task.HasField("retries"):
        metadata.retries.CopyFrom(task.retries)
    if task.HasField("timeout"):
        metadata.timeout.CopyFrom(task.timeout)
    if task.HasField("interruptible"):  # an explicit false counts too
        metadata.interruptible = task.interruptible
    return metadata


def _bindings(variables: Iterable[str], source: str) -> list[Binding]:
    """Return bindings of `variables` to those of the same names of the node `source`; "" is the workflow's input."""
    return [
        Binding(var=name, binding=BindingData(promise=OutputReference(node_id=source, var=name)))
        for name in sorted(variables)
    ]
