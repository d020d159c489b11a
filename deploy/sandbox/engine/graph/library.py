"""What nodes refer to, and the policy of a task node: retries, timeout, cache, interruptible."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self

from flyteidl.core.compiler_pb2 import CompiledWorkflow, CompiledWorkflowClosure
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.tasks_pb2 import Resources, TaskTemplate
from flyteidl.core.workflow_pb2 import Node, TaskNodeOverrides

from deploy.sandbox.engine.graph.durations import bounded
from deploy.sandbox.engine.graph.interface import CacheKey, Run
from services.contracts.identifiers import IdentifierKey, key_of

# Attempts after failures of the system, as flytepropeller's max-node-retries-system-failures.
SYSTEM_RETRIES: Final = 3
# A node may be active twice as long as one attempt may take (engine.md#flyteworkflow-object, activeDeadline).
ACTIVE_TIMEOUTS: Final = 2


@dataclass(frozen=True)
class Library:
    """Tasks and sub-workflows of a compiled closure."""

    tasks: Mapping[IdentifierKey, TaskTemplate]
    workflows: Mapping[IdentifierKey, CompiledWorkflow]
    is_dynamic: bool = False
    """Whether a dynamic task made them."""

    @classmethod
    def of(cls, closure: CompiledWorkflowClosure, *, is_dynamic: bool = False) -> Self:
        """Return the library of `closure`."""
        return cls(
            tasks={key_of(task.template.id): task.template for task in closure.tasks},
            workflows={key_of(workflow.template.id): workflow for workflow in closure.sub_workflows},
            is_dynamic=is_dynamic,
        )


@dataclass(frozen=True)
class TaskPolicy:
    """A task as one node runs it."""

    template: TaskTemplate
    """Prepared, with the overrides of the node."""
    most_attempts: int
    timeout: timedelta | None
    interruptible: bool
    cacheable: bool
    serializes_cache: bool
    cache_version: str
    overwrites_cache: bool

    def cache_key(self, inputs: LiteralMap) -> CacheKey:
        """Return the cache key of the task with `inputs`."""
        ignored = set(self.template.metadata.cache_ignore_input_vars)
        counted = {name: value for name, value in inputs.literals.items() if name not in ignored}
        return CacheKey(self.template.id, self.cache_version, self.template.interface, LiteralMap(literals=counted))

    @property
    def has_outputs(self) -> bool:
        """Whether the task declares outputs."""
        return bool(self.template.interface.outputs.variables)

    def may_be_interrupted(self, system_failures: int) -> bool:
        """Return whether the next attempt may be interrupted: not the last one after failures of the system."""
        return self.interruptible and (system_failures == 0 or system_failures < SYSTEM_RETRIES - 1)


def task_policy(node: Node, template: TaskTemplate, run: Run, workflow_interruptible: bool) -> TaskPolicy:
    """Return how `node` runs a task.

    Settings of the node win over those of the task and of the execution, as in flytepropeller.

    Args:
        node: A task node, or the node of an array node.
        template: Its task.
        run: The execution.
        workflow_interruptible: The default of the workflow.
    """
    metadata, task = node.metadata, template.metadata
    retries = metadata.retries.retries or task.retries.retries
    timeout = bounded(metadata.timeout) or bounded(task.timeout)
    interruptible = run.config.interruptible.value if run.config.HasField("interruptible") else workflow_interruptible
    if metadata.WhichOneof("interruptible_value"):
        interruptible = metadata.interruptible
    elif task.WhichOneof("interruptible_value"):
        interruptible = task.interruptible
    cacheable = metadata.cacheable if metadata.WhichOneof("cacheable_value") else task.discoverable
    serializes = (
        metadata.cache_serializable if metadata.WhichOneof("cache_serializable_value") else task.cache_serializable
    )
    version = metadata.cache_version if metadata.WhichOneof("cache_version_value") else task.discovery_version
    return TaskPolicy(
        template=run.prepare(with_overrides(template, node.task_node.overrides)),
        most_attempts=retries + 1,
        timeout=timeout or None,
        interruptible=interruptible,
        cacheable=cacheable,
        serializes_cache=cacheable and serializes,
        cache_version=version,
        overwrites_cache=run.config.overwrite_cache,
    )


def with_overrides(template: TaskTemplate, overrides: TaskNodeOverrides) -> TaskTemplate:
    """Return a task with the resources, image and extended resources that its node overrides."""
    result = TaskTemplate()
    result.CopyFrom(template)
    if overrides.HasField("extended_resources"):
        result.extended_resources.CopyFrom(overrides.extended_resources)
    if result.WhichOneof("target") == "container":
        if overrides.container_image:
            result.container.image = overrides.container_image
        _override(result.container.resources, overrides.resources)
    return result


def _override(resources: Resources, overrides: Resources) -> None:
    for field in ("requests", "limits"):
        amounts = {entry.name: entry.value for entry in getattr(resources, field)}
        amounts |= {entry.name: entry.value for entry in getattr(overrides, field)}
        resources.ClearField(field)
        getattr(resources, field).extend(
            Resources.ResourceEntry(name=name, value=value) for name, value in amounts.items()
        )
