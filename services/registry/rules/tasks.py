"""Checks of tasks, in the order of registry.md#createtask-steps, and what is stored of them."""

from collections.abc import Iterable, Mapping, Sequence, Sized
from datetime import datetime

from flyteidl.admin.task_pb2 import Task, TaskSpec
from flyteidl.core.compiler_pb2 import CompiledTask
from flyteidl.core.identifier_pb2 import Identifier
from flyteidl.core.tasks_pb2 import Resources, TaskTemplate
from google.protobuf.struct_pb2 import Struct

from services.contracts.identifiers import MAX_FIELD_BYTES
from services.kit.errors import InvalidArgument
from services.kit.protobuf.parts import count_parts
from services.registry.compiler.pods import NotAPodSpec, TooLargePodSpec, container_names
from services.registry.config import WhitelistScope
from services.registry.rules.resources import Entry, ResourceLimits, check_resources

# By their names in Kubernetes pods; vendors' names of GPUs are unknown and not checked.
_POD_RESOURCES = {
    "CPU": Resources.CPU,
    "GPU": Resources.GPU,
    "MEMORY": Resources.MEMORY,
    "EPHEMERAL-STORAGE": Resources.EPHEMERAL_STORAGE,
    "EPHEMERAL_STORAGE": Resources.EPHEMERAL_STORAGE,
}

# Entries of each list and map of a template. Real ones have some hundred; 200,000 in a map take seconds to parse, copy
# and store, in steps that let no other call pass.
MAX_ENTRIES = 10_000
# Values in `custom`, in which maps and lists may be nested, as they are serialized: an entry of a map has two parts.
MAX_CUSTOM_PARTS = 100_000
_LEAST_PART_BYTES = 2
# Requests and limits of a container together. There are six names, of which four may occur once in each list.
MAX_RESOURCES = 1000

Whitelist = Mapping[str, Sequence[WhitelistScope]]
"""Where a task type may be used, by type (registry.md#task-type-whitelist); one without an entry, everywhere."""


def check_task(task: Identifier, spec: TaskSpec, whitelist: Whitelist, limits: ResourceLimits) -> None:
    """Raise InvalidArgument unless `spec` may be registered as `task`, with resources within `limits`."""
    if not spec.HasField("template"):
        raise InvalidArgument("missing spec")
    template = spec.template
    if not template.type:
        raise InvalidArgument("missing type")
    if len(template.type.encode()) > MAX_FIELD_BYTES:  # it is part of indexes, as the parts of an id are
        raise InvalidArgument(f"size of type exceeded length {MAX_FIELD_BYTES}")
    scopes = whitelist.get(template.type, ())
    if scopes and not any(_covers(scope, task) for scope in scopes):
        raise InvalidArgument("task type must be whitelisted before use")
    if not template.HasField("metadata"):
        raise InvalidArgument("missing metadata")
    if template.metadata.HasField("runtime") and not template.metadata.runtime.version:
        raise InvalidArgument("missing runtime version")
    if not template.HasField("interface"):
        raise InvalidArgument("missing typed interface")
    _check_sizes(template)
    _check_target(task, template, limits)


def registered_task(compiled: CompiledTask, short_description: str, now: datetime) -> Task:
    """Return what is stored and returned of a task registered at `now` (registry.md#stored-task)."""
    task = Task(id=compiled.template.id, short_description=short_description)
    task.id.ClearField("org")
    task.closure.compiled_task.CopyFrom(compiled)
    task.closure.created_at.FromDatetime(now)
    return task


def _covers(scope: WhitelistScope, task: Identifier) -> bool:
    # A domain without a project restricts nothing.
    return not scope.project or (scope.project == task.project and scope.domain in ("", task.domain))


def _check_sizes(template: TaskTemplate) -> None:
    """Raise InvalidArgument for lists and maps that are longer than any real task needs."""
    metadata, container, pod = template.metadata, template.container, template.k8s_pod.metadata
    lists: dict[str, Sized] = {
        "config": template.config,
        "metadata.tags": metadata.tags,
        "metadata.cache_ignore_input_vars": metadata.cache_ignore_input_vars,
        "interface.inputs": template.interface.inputs.variables,
        "interface.outputs": template.interface.outputs.variables,
        "security_context.secrets": template.security_context.secrets,
        "security_context.tokens": template.security_context.tokens,
        "container.command": container.command,
        "container.args": container.args,
        "container.env": container.env,
        "container.config": container.config,
        "container.ports": container.ports,
        "k8s_pod.metadata.labels": pod.labels,
        "k8s_pod.metadata.annotations": pod.annotations,
    }
    for field, entries in lists.items():
        if len(entries) > MAX_ENTRIES:
            raise InvalidArgument(f"{field} of the task cannot exceed {MAX_ENTRIES} entries")
    if template.custom.ByteSize() > _LEAST_PART_BYTES * MAX_CUSTOM_PARTS:
        serialized = template.custom.SerializeToString()
        if count_parts(Struct.DESCRIPTOR, serialized, MAX_CUSTOM_PARTS) > MAX_CUSTOM_PARTS:
            raise InvalidArgument(f"custom of the task has more than {MAX_CUSTOM_PARTS} messages, entries and items")


def _check_target(task: Identifier, template: TaskTemplate, limits: ResourceLimits) -> None:
    target = template.WhichOneof("target")
    if target == "container":
        if not template.container.image:
            raise InvalidArgument("missing image")
        resources = template.container.resources
        entries = len(resources.requests) + len(resources.limits)
        if entries > MAX_RESOURCES:
            raise InvalidArgument(
                f"the container has {entries} resource requests and limits, it may have {MAX_RESOURCES}"
            )
        check_resources(task, _entries(resources.requests), _entries(resources.limits), limits)
    elif target == "k8s_pod":
        if not template.k8s_pod.HasField("pod_spec"):
            raise InvalidArgument("pod tasks should specify their target as a K8sPod with a defined pod spec")
        for in_pod in _pod_resources(template.k8s_pod.pod_spec):
            check_resources(task, _pod_entries(in_pod, "requests"), _pod_entries(in_pod, "limits"), limits)


def _entries(entries: Iterable[Resources.ResourceEntry]) -> list[Entry]:
    return [Entry(entry.name, entry.value) for entry in entries]


def _pod_resources(pod_spec: Struct) -> list[Struct]:
    """Return the resources of each container; raise InvalidArgument unless `pod_spec` is a PodSpec within limits."""
    try:
        container_names(pod_spec)
    except TooLargePodSpec as error:
        raise InvalidArgument(str(error)) from error
    except NotAPodSpec as error:
        raise InvalidArgument("the pod_spec of the K8sPod cannot be read as a Kubernetes PodSpec") from error
    containers = pod_spec.fields["containers"].list_value.values if "containers" in pod_spec.fields else ()
    return [_object(container.struct_value, "resources") for container in containers]


def _pod_entries(resources: Struct, field: str) -> list[Entry]:
    entries = []
    for name, amount in sorted(_object(resources, field).fields.items(), key=lambda item: item[0]):
        resource = _POD_RESOURCES.get(name.upper())
        if resource is not None:
            # Kubernetes accepts numbers, too.
            text = amount.string_value if amount.HasField("string_value") else f"{amount.number_value:.12g}"
            entries.append(Entry(resource, text))
    return entries


def _object(parent: Struct, field: str) -> Struct:
    return parent.fields[field].struct_value if field in parent.fields else Struct()
