"""Engine inputs: attributes and settings that an engine receives with an execution (engine.md#what-an-engine-receives).

The attributes that acted at the launch are stored with the execution, so changing or deleting them later has no effect.
Settings are the current ones.
"""

from collections.abc import Callable, Mapping, Sequence

from flyteidl.admin.matchable_resource_pb2 import (
    ListMatchableAttributesResponse,
    TaskResourceAttributes,
    TaskResourceSpec,
)

from services.contracts.engine import EngineInputs
from services.contracts.task_resources import with_valid_amounts
from services.contracts.workflow_settings import ResourceAmounts
from services.executions.config import Settings


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


def _spec(amounts: ResourceAmounts) -> TaskResourceSpec:
    return TaskResourceSpec(
        cpu=amounts.cpu, memory=amounts.memory, gpu=amounts.gpu, ephemeral_storage=amounts.ephemeral_storage
    )
