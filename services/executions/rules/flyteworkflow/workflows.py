"""WorkflowSpecs: a workflow, or a sub-workflow, as flytepropeller reads it (engine.md#flyteworkflow-object)."""

from collections.abc import Mapping

from flyteidl.core.compiler_pb2 import CompiledWorkflow, ConnectionSet
from flyteidl.core.identifier_pb2 import Identifier
from flyteidl.core.interface_pb2 import TypedInterface
from flyteidl.core.workflow_pb2 import WorkflowMetadata

from services.executions.rules.flyteworkflow.encoding import Json, protojson
from services.executions.rules.flyteworkflow.errors import BuildCode, failure
from services.executions.rules.flyteworkflow.interfaces import strip_interface
from services.executions.rules.flyteworkflow.nodes import Tasks, node_specs

_Policy = WorkflowMetadata.OnFailurePolicy


def workflow_spec(workflow: CompiledWorkflow, tasks: Tasks) -> Json:
    """Return the WorkflowSpec of a compiled workflow.

    Raises:
        BuildFailed: A node cannot be written, or two different ones have one id.
    """
    template = workflow.template
    nodes: dict[str, Json] = {}
    for node in template.nodes:
        _add(nodes, node_specs(node, tasks))
    downstream = _ids(workflow.connections.downstream)
    spec: Json = {
        "id": workflow_id(template.id),
        "nodes": nodes,
        "connections": downstream,
        "edges": {"downstream": downstream, "upstream": _ids(workflow.connections.upstream)},
        "outputs": _outputs(template.interface),
    }
    if template.outputs:
        spec["outputBindings"] = [protojson(binding) for binding in template.outputs]
    if template.HasField("failure_node"):
        # Nodes of a branch are looked up in the workflow, also those of a branch that handles its failure.
        spec["onFailure"], *children = node_specs(template.failure_node, tasks)
        _add(nodes, children)
    if template.metadata.on_failure != _Policy.Value("FAIL_IMMEDIATELY"):
        spec["onFailurePolicy"] = _Policy.Name(template.metadata.on_failure)
    return spec


def workflow_id(identifier: Identifier) -> str:
    """Return the id of a workflow in a resource, which is without its version."""
    return f"{identifier.project}:{identifier.domain}:{identifier.name}"


def _add(nodes: dict[str, Json], specs: list[Json]) -> None:
    for spec in specs:
        if nodes.setdefault(spec["id"], spec) != spec:
            raise failure(
                BuildCode.VALUE_COLLISION, spec["id"], f"Id is expected to be unique. {spec['id']} already exists."
            )


def _ids(connections: Mapping[str, ConnectionSet.IdList]) -> dict[str, list[str]]:
    return {node_id: list(connected.ids) for node_id, connected in connections.items()}


def _outputs(interface: TypedInterface) -> Json:
    stripped = TypedInterface(outputs=interface.outputs)
    strip_interface(stripped)
    return protojson(stripped.outputs)
