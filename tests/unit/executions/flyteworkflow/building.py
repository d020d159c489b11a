"""Short forms for tests of FlyteWorkflow resources; workflows are compiled as the registry does."""

from typing import Any

from flyteidl.core.compiler_pb2 import CompiledTask, CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import ResourceType, WorkflowExecutionIdentifier
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.core.workflow_pb2 import Node

from services.executions.rules.flyteworkflow import BuildFailed
from services.executions.rules.flyteworkflow.encoding import identifier_key
from services.executions.rules.flyteworkflow.nodes import node_specs
from tests.unit.registry.compiler.drawing import identifier, task

EXECUTION = WorkflowExecutionIdentifier(project="p", domain="d", name="exec")

MAKE = task("make")
"""The task of nodes for which no other matters."""


def key(name: str, kind: ResourceType = ResourceType.TASK) -> str:
    """Return the key of the task or workflow `name`, written out."""
    return f'resource_type:{ResourceType.Name(kind)} project:"p" domain:"d" name:"{name}" version:"v"'


def spec_of(node: Node, *tasks: CompiledTask) -> dict[str, Any]:
    """Return the one NodeSpec of a node."""
    (spec,) = node_specs(node, by_key(*tasks))
    return spec


def by_key(*tasks: CompiledTask) -> dict[str, TaskTemplate]:
    """Return templates of tasks, and that of MAKE, as nodes look them up."""
    return {identifier_key(each.template.id): each.template for each in (MAKE, *tasks)}


def task_node(node_id: str = "n0", name: str = "make") -> Node:
    """Return a node that runs a task and says nothing else."""
    node = Node(id=node_id)
    node.task_node.reference_id.CopyFrom(identifier(name, ResourceType.TASK))
    return node


def closure_of(*nodes: Node, **downstream: list[str]) -> CompiledWorkflowClosure:
    """Return the closure of a workflow without inputs, as it is, with MAKE as its task.

    Args:
        nodes: Its nodes; start-node and end-node are added.
        downstream: The nodes after each; those after start-node are given as `start`.
    """
    closure = CompiledWorkflowClosure(tasks=[MAKE])
    template = closure.primary.template
    template.id.CopyFrom(identifier("wf"))
    template.nodes.extend([Node(id="start-node"), Node(id="end-node"), *nodes])
    for node_id, following in (downstream or {"start": [node.id for node in nodes]}).items():
        name = "start-node" if node_id == "start" else node_id
        closure.primary.connections.downstream[name].ids.extend(following)
    return closure


def codes(failed: BuildFailed) -> list[tuple[str, str]]:
    """Return the codes and node ids of all errors."""
    return [(str(error.code), error.node_id) for error in failed.errors]
