"""Engine inputs: attributes and settings that an engine receives with an execution (engine.md#what-an-engine-receives).

The attributes that acted at the launch are stored with the execution, so changing or deleting them later has no effect.
Settings are the current ones.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flyteidl.admin.matchable_resource_pb2 import (
    ListMatchableAttributesResponse,
    PluginOverride,
    TaskResourceAttributes,
    TaskResourceSpec,
)
from flyteidl.core.tasks_pb2 import TaskTemplate

from services.contracts.workflow_settings import ResourceAmounts
from services.executions.config import Settings
from services.executions.rules.task_resources import container_resources, with_valid_amounts

# The key in a container's config of the queue for tasks that the task makes (engine.md#queues).
CHILD_QUEUE = "child_queue"


@dataclass(frozen=True)
class EngineInputs:
    """Attributes and settings for an execution's tasks, and for the namespace in which they run."""

    task_resources: TaskResourceAttributes
    queue_tags: Sequence[str] = ()
    plugin_overrides: Sequence[PluginOverride] = ()
    cluster_resources: Mapping[str, str] = field(default_factory=dict)


def engine_inputs(attributes: bytes, domain: str, settings: Settings) -> EngineInputs:
    """Return the engine inputs of an execution.

    Task resources in attributes replace all defaults and limits of the settings: a resource that they omit has none.

    Args:
        attributes: The attributes that act on the execution, a serialized ListMatchableAttributesResponse.
        domain: Its domain.
        settings: The current settings.
    """
    platform = platform_resources(settings)
    kinds = {
        item.attributes.WhichOneof("target"): item.attributes
        for item in ListMatchableAttributesResponse.FromString(attributes).configurations
    }
    resources, queue = kinds.get("task_resource_attributes"), kinds.get("execution_queue_attributes")
    plugins, cluster = kinds.get("plugin_overrides"), kinds.get("cluster_resource_attributes")
    configured = settings.queue_tags.get(domain, settings.queue_tags.get("", []))
    return EngineInputs(
        task_resources=with_valid_amounts(resources.task_resource_attributes, platform) if resources else platform,
        queue_tags=tuple(queue.execution_queue_attributes.tags if queue else configured),
        plugin_overrides=tuple(plugins.plugin_overrides.overrides) if plugins else (),
        cluster_resources=dict(cluster.cluster_resource_attributes.attributes) if cluster else {},
    )


def platform_resources(settings: Settings) -> TaskResourceAttributes:
    """Return the task resources of the settings."""
    return TaskResourceAttributes(
        defaults=_spec(settings.task_resource_defaults), limits=_spec(settings.task_resource_limits)
    )


def child_queue(tags: Sequence[str], queues: Mapping[str, Sequence[str]], choose: Callable[[list[str]], str]) -> str:
    """Return one of the queues for `tags`; "" when no queue has any of them.

    Args:
        tags: Tags; the first one that a queue has decides.
        queues: The tags of each queue.
        choose: Picks one of several queues.
    """
    for tag in tags:
        if tagged := sorted(queue for queue, its_tags in queues.items() if tag in its_tags):
            return choose(tagged)
    return ""


def prepared(task: TaskTemplate, inputs: EngineInputs, queue: str) -> TaskTemplate:
    """Return `task` with the resources of its container and the child queue; other tasks are returned unchanged."""
    if task.WhichOneof("target") != "container":
        return task
    result = TaskTemplate()
    result.CopyFrom(task)
    result.container.resources.CopyFrom(container_resources(task.container.resources, inputs.task_resources))
    if queue:
        result.container.config.add(key=CHILD_QUEUE, value=queue)
    return result


def _spec(amounts: ResourceAmounts) -> TaskResourceSpec:
    return TaskResourceSpec(
        cpu=amounts.cpu, memory=amounts.memory, gpu=amounts.gpu, ephemeral_storage=amounts.ephemeral_storage
    )
