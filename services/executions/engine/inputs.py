"""What an engine is handed of attributes and settings beside an execution's spec (executions.md 2.8, projects.md 12).

The attributes that acted when the execution was launched are kept with it, so they are the same however often an
engine asks, also after they were changed or deleted. Settings are those of now.
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
from services.executions.rules.task_resources import container_resources, readable

# The key under which a container's task is told the queue of the tasks that it makes itself.
CHILD_QUEUE = "child_queue"


@dataclass(frozen=True)
class EngineInputs:
    """What acts on an execution's tasks, and on the namespace in which they run."""

    task_resources: TaskResourceAttributes
    queue_tags: Sequence[str] = ()
    plugin_overrides: Sequence[PluginOverride] = ()
    cluster_resources: Mapping[str, str] = field(default_factory=dict)


def engine_inputs(acting: bytes, domain: str, settings: Settings) -> EngineInputs:
    """Return what an engine is handed of an execution of `domain` on which the serialized attributes `acting` act.

    Task resources of attributes stand in place of all the settings', defaults and limits: what they leave out is none.
    """
    platform = platform_resources(settings)
    kinds = {
        one.attributes.WhichOneof("target"): one.attributes
        for one in ListMatchableAttributesResponse.FromString(acting).configurations
    }
    resources, queue = kinds.get("task_resource_attributes"), kinds.get("execution_queue_attributes")
    plugins, cluster = kinds.get("plugin_overrides"), kinds.get("cluster_resource_attributes")
    configured = settings.queue_tags.get(domain, settings.queue_tags.get("", []))
    return EngineInputs(
        task_resources=readable(resources.task_resource_attributes, platform) if resources else platform,
        queue_tags=tuple(queue.execution_queue_attributes.tags if queue else configured),
        plugin_overrides=tuple(plugins.plugin_overrides.overrides) if plugins else (),
        cluster_resources=dict(cluster.cluster_resource_attributes.attributes) if cluster else {},
    )


def platform_resources(settings: Settings) -> TaskResourceAttributes:
    """Return what the settings say of task resources."""
    return TaskResourceAttributes(
        defaults=_spec(settings.task_resource_defaults), limits=_spec(settings.task_resource_limits)
    )


def child_queue(tags: Sequence[str], queues: Mapping[str, Sequence[str]], choose: Callable[[list[str]], str]) -> str:
    """Return the queue for `tags`: of the first tag that any of `queues` has, one that `choose` picks; "" without."""
    for tag in tags:
        if found := sorted(queue for queue, its_tags in queues.items() if tag in its_tags):
            return choose(found)
    return ""


def prepared(task: TaskTemplate, work: EngineInputs, queue: str) -> TaskTemplate:
    """Return `task` as it runs; a task that has no container, or has a pod, is left as it is."""
    if task.WhichOneof("target") != "container":
        return task
    result = TaskTemplate()
    result.CopyFrom(task)
    result.container.resources.CopyFrom(container_resources(task.container.resources, work.task_resources))
    if queue:
        result.container.config.add(key=CHILD_QUEUE, value=queue)
    return result


def _spec(amounts: ResourceAmounts) -> TaskResourceSpec:
    return TaskResourceSpec(
        cpu=amounts.cpu, memory=amounts.memory, gpu=amounts.gpu, ephemeral_storage=amounts.ephemeral_storage
    )
