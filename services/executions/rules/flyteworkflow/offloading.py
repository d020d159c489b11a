"""Offloading: a resource refers to its workflow or inputs instead of containing them (engine.md#submission).

etcd stores at most 1.5 MiB of a resource, with the status that grows while it runs and the names of its members, which
the API server keeps for field managers.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap

from services.executions.rules.flyteworkflow.encoding import Json, protojson
from services.executions.rules.flyteworkflow.inputs import check_inputs
from services.executions.rules.flyteworkflow.resource import resource_of, workflow_members

_WORKFLOW_MEMBERS = ("spec", "subWorkflows", "tasks")


def offload_closure(resource: Json, uri: str) -> Json:
    """Return `resource` with the URI of an admin.WorkflowClosure instead of the workflow.

    Changes to its tasks are lost; flytepropeller applies `executionConfig.TaskResources` itself.
    """
    kept = {member: value for member, value in resource.items() if member not in _WORKFLOW_MEMBERS}
    return kept | {"spec": None, "tasks": None, "workflowClosureReference": uri}


def offload_inputs(resource: Json, uri: str) -> Json:
    """Return `resource` with the URI of a LiteralMap instead of the inputs; both would fail the workflow."""
    kept = {member: value for member, value in resource.items() if member != "inputs"}
    return kept | {"offloadedInputs": uri}


@dataclass(frozen=True)
class Offloading:
    """Which parts of a resource are offloaded: those that always are, and those that make it too large.

    Args:
        closure_uri: Where the registered closure is.
        inputs_uri: Where the completed inputs are.
        inline_max_bytes: Size of the JSON of a resource from which parts of it are offloaded.
        always_closure: Whether the closure always is.
        always_inputs: Whether the inputs always are.
    """

    closure_uri: str
    inputs_uri: str
    inline_max_bytes: int
    always_closure: bool = False
    always_inputs: bool = False

    def build(
        self,
        closure: CompiledWorkflowClosure,
        inputs: LiteralMap,
        execution: WorkflowExecutionIdentifier,
        namespace: str,
        members: Callable[[CompiledWorkflowClosure], Json] = workflow_members,
    ) -> Json:
        """Return what `build_resource` returns, with parts offloaded that always are or are too large by themselves.

        Such parts are not converted to JSON, which takes seconds for some megabytes.

        Args:
            closure: As of `build_resource`.
            inputs: As of `build_resource`.
            execution: As of `build_resource`.
            namespace: As of `build_resource`.
            members: Returns the members that contain the workflow; they may come from a cache.

        Raises:
            BuildFailed: As `build_resource`; nodes of an offloaded closure are left to flytepropeller.
            TypesTooLarge: As `build_resource`.
        """
        check_inputs(closure.primary.template, inputs)
        resource = resource_of(closure, execution, namespace)
        if self.always_closure or closure.ByteSize() > self.inline_max_bytes:
            resource = offload_closure(resource, self.closure_uri)
        else:
            resource |= members(closure)
        if self.always_inputs or inputs.ByteSize() > self.inline_max_bytes:
            return offload_inputs(resource, self.inputs_uri)
        return resource | {"inputs": protojson(inputs)}

    def limit(self, resource: Json) -> Json:
        """Return a prepared resource with inputs, closure or both offloaded if it is too large.

        Inputs come first if they suffice: with the closure, changes to its tasks are lost.
        """
        excess = _json_bytes(resource) - self.inline_max_bytes
        if excess <= 0:
            return resource
        inputs_bytes = _json_bytes(resource["inputs"]) if "inputs" in resource else 0
        closure_bytes = sum(_json_bytes(resource[member]) for member in _WORKFLOW_MEMBERS if member in resource)
        if inputs_bytes and (inputs_bytes >= excess or closure_bytes < excess):
            resource = offload_inputs(resource, self.inputs_uri)
        if inputs_bytes < excess and "workflowClosureReference" not in resource:
            resource = offload_closure(resource, self.closure_uri)
        return resource


def _json_bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
