"""The container of a task: of its template, or the primary one of its pod; and the task types that cannot run here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flyteidl.core.tasks_pb2 import Resources, TaskTemplate
from google.protobuf.json_format import MessageToDict

# Task types of flytekit's plugins that start a cluster, or call a service, by a plugin of the engine.
_OF_PLUGINS = frozenset(
    (
        *("spark", "pytorch", "tensorflow", "mpi", "horovod", "ray", "dask", "paddle", "xgboost", "flink"),
        *("aws-batch", "aws_batch_array", "container_array", "sagemaker_training_job_task", "kfpytorch"),
    )
)
_PRIMARY = "primary_container_name"
_RESOURCES = {"cpu": Resources.CPU, "memory": Resources.MEMORY}


class UnsupportedTask(Exception):
    """A task that needs more than a process of this machine."""


@dataclass(frozen=True)
class TaskContainer:
    """What of a container decides how it runs as a process."""

    command: list[str]
    image: str
    env: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)


def container_of(template: TaskTemplate) -> TaskContainer:
    """Return the container of a task; raise UnsupportedTask when it has none, or its type needs a plugin."""
    if template.type in _OF_PLUGINS:
        raise UnsupportedTask(
            f"the task type {template.type!r} of {template.id.name} needs a plugin of the engine and a cluster; "
            "the sandbox runs tasks as processes of this machine"
        )
    target = template.WhichOneof("target")
    if target == "container":
        container = template.container
        command = [*container.command, *container.args]
        env = {pair.key: pair.value for pair in container.env}
        found = TaskContainer(command, container.image, env, container.resources)
    elif target == "k8s_pod":
        found = _primary_container(template)
    else:
        raise UnsupportedTask(
            f"the task type {template.type!r} of {template.id.name} has no container; it needs a plugin or a "
            "connector, which the sandbox does not have"
        )
    if not found.command:
        raise UnsupportedTask(
            f"the container of {template.id.name} has no command: its image's own cannot be run without the image"
        )
    return found


def _primary_container(template: TaskTemplate) -> TaskContainer:
    spec = MessageToDict(template.k8s_pod.pod_spec)
    containers = _items(spec, "containers")
    name = template.config.get(_PRIMARY) or template.k8s_pod.primary_container_name
    primary = next((each for each in containers if _text(each, "name") == name), None)
    others = [_text(each, "name") for each in containers if _text(each, "name") != name]
    others += [_text(each, "name") for each in _items(spec, "initContainers")]
    if primary is None:
        raise UnsupportedTask(f"the pod of {template.id.name} has no primary container {name!r}")
    if others:
        raise UnsupportedTask(
            f"the pod of {template.id.name} has further containers ({', '.join(others)}), which need a cluster"
        )
    resources = Resources()
    requests: Mapping[str, Any] = (primary.get("resources") or {}).get("requests") or {}
    for resource, amount in requests.items():
        if resource in _RESOURCES:
            resources.requests.add(name=_RESOURCES[resource], value=str(amount))
    env = {_text(each, "name"): each["value"] for each in _items(primary, "env") if each.get("value") is not None}
    command = [*_items(primary, "command"), *_items(primary, "args")]
    return TaskContainer(command, _text(primary, "image"), env, resources)


# Of a registered pod the kinds of values are checked, but any may be null or absent (compiler.md#tasks).
def _items(parent: Mapping[str, Any], name: str) -> list[Any]:
    return [item for item in parent.get(name) or () if item is not None]


def _text(parent: Mapping[str, Any], name: str) -> str:
    return parent.get(name) or ""
