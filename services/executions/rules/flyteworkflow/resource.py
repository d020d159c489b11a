"""The resource of an execution, before its preparation (engine.md#flyteworkflow-object)."""

from collections.abc import Iterable

from flyteidl.core.compiler_pb2 import CompiledTask, CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.tasks_pb2 import TaskTemplate

from services.executions.rules.flyteworkflow.encoding import Json, identifier_key, protojson
from services.executions.rules.flyteworkflow.errors import BuildCode, failure
from services.executions.rules.flyteworkflow.inputs import check_inputs
from services.executions.rules.flyteworkflow.interfaces import strip_interface
from services.executions.rules.flyteworkflow.labels import system_labels
from services.executions.rules.flyteworkflow.nodes import START_NODE
from services.executions.rules.flyteworkflow.workflows import workflow_id, workflow_spec

API_VERSION = "flyte.lyft.com/v1alpha1"
_NO_RESOURCES = {"CPU": "0", "Memory": "0", "EphemeralStorage": "0", "Storage": "0", "GPU": "0"}


def build_resource(
    closure: CompiledWorkflowClosure, inputs: LiteralMap, execution: WorkflowExecutionIdentifier, namespace: str
) -> Json:
    """Return the resource of an execution as flyteadmin's builder makes it; `prepare` completes it.

    Args:
        closure: The compiled workflow, with tasks as they are to run (engine.md#task-resources, engine.md#queues).
        inputs: The completed inputs.
        execution: The execution.
        namespace: The Kubernetes namespace in which it runs.

    Raises:
        BuildFailed: The inputs are not those of the workflow, or a node of it cannot be written.
        TypesTooLarge: Comparing the types of the inputs takes too long.
    """
    check_inputs(closure.primary.template, inputs)
    return resource_of(closure, execution, namespace) | workflow_members(closure) | {"inputs": protojson(inputs)}


def workflow_members(closure: CompiledWorkflowClosure) -> Json:
    """Return the members that contain the workflow: `spec`, `subWorkflows` and `tasks`; raise BuildFailed."""
    tasks = _stripped_tasks(closure.tasks)
    members: Json = {
        "spec": workflow_spec(closure.primary, tasks),
        "tasks": {key: protojson(template) for key, template in tasks.items()},
    }
    # Those to which no node refers are not compiled: they have no connections, and may have tasks that are not there.
    referred_to = [sub for sub in closure.sub_workflows if sub.HasField("connections")]
    if referred_to:
        members["subWorkflows"] = {identifier_key(sub.template.id): workflow_spec(sub, tasks) for sub in referred_to}
    return members


def resource_of(closure: CompiledWorkflowClosure, execution: WorkflowExecutionIdentifier, namespace: str) -> Json:
    """Return the resource of an execution without its workflow and inputs; raise BuildFailed if nothing would run."""
    template = closure.primary.template
    downstream = closure.primary.connections.downstream
    # Reading an entry that is not there would add it.
    if START_NODE not in downstream or not downstream[START_NODE].ids:
        of = workflow_id(template.id)
        raise failure(
            BuildCode.NO_ENTRY_NODE_FOUND, of, f"no entry node: can't find a node to start executing Workflow [{of}]."
        )
    return {
        # As in the Go object; `prepare` writes the name of the definition.
        "kind": "flyteworkflow",
        "apiVersion": API_VERSION,
        "metadata": {
            "name": execution.name,
            "namespace": namespace,
            "labels": system_labels(execution, template.id.name),
        },
        "executionId": {},
        "node-defaults": {"interruptible": True} if template.metadata_defaults.interruptible else {},
        "securityContext": {},
        "status": {"phase": 0},
        "rawOutputDataConfig": {},
        "executionConfig": {
            "TaskPluginImpls": None,
            "MaxParallelism": 0,
            "RecoveryExecution": {},
            "TaskResources": {"Requests": _NO_RESOURCES, "Limits": _NO_RESOURCES},
            "Interruptible": None,
            "OverwriteCache": False,
            "EnvironmentVariables": None,
        },
    }


def _stripped_tasks(compiled: Iterable[CompiledTask]) -> dict[str, TaskTemplate]:
    tasks: dict[str, TaskTemplate] = {}
    for task in compiled:
        template = TaskTemplate()
        template.CopyFrom(task.template)
        if template.HasField("interface"):
            strip_interface(template.interface)
        key = identifier_key(template.id)
        if key in tasks:
            raise failure(BuildCode.VALUE_COLLISION, key, f"Id is expected to be unique. {key} already exists.")
        tasks[key] = template
    return tasks
