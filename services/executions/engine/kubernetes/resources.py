"""Building of FlyteWorkflow resources from what is stored of an execution (engine.md#submission)."""

from dataclasses import dataclass, replace

from flyteidl.core.literals_pb2 import LiteralMap

from services.contracts.engine import RunRequest
from services.executions.config import Settings
from services.executions.engine.kubernetes.workflows import RunnableWorkflow, RunnableWorkflows
from services.executions.rules.flyteworkflow import Offloading, prepare
from services.executions.rules.flyteworkflow.encoding import Json
from services.kit.objects.store import ObjectStore
from services.kit.rpc.cpu_pool import CpuPool


@dataclass(frozen=True)
class BuiltResource:
    """A prepared resource, and how it becomes smaller."""

    content: Json
    offloading: Offloading

    def smallest(self) -> Json:
        """Return the resource with everything offloaded that can be."""
        return replace(self.offloading, inline_max_bytes=0).limit(self.content)


class ResourceBuilder:
    """Builds the resource of an execution.

    Args:
        workflows: The registered workflows.
        objects: The object store, with the inputs.
        cpu_pool: Where large resources are built.
        settings: The current settings.
    """

    def __init__(
        self,
        workflows: RunnableWorkflows,
        objects: ObjectStore,
        cpu_pool: CpuPool,
        settings: Settings,
    ) -> None:
        self._workflows = workflows
        self._objects = objects
        self._cpu_pool = cpu_pool
        self._settings = settings

    async def build(self, request: RunRequest) -> BuiltResource:
        """Return the resource of an execution.

        Raises:
            BuildFailed: The workflow cannot be run with these inputs.
            ServiceError: Workflow or inputs cannot be read, or their types are too large to be compared.
        """
        platform = request.engine_inputs.task_resources
        workflow = await self._workflows.get(request.workflow_id, platform, request.child_queue)
        inputs = await self._objects.get(request.inputs_uri)
        size = len(inputs) + workflow.unconverted_bytes
        return await self._cpu_pool.run_unless_small(size, self._built, request, workflow, inputs)

    def _built(self, request: RunRequest, workflow: RunnableWorkflow, inputs: bytes) -> BuiltResource:
        settings = self._settings
        offloading = Offloading(
            closure_uri=workflow.uri,
            inputs_uri=request.inputs_uri,
            inline_max_bytes=settings.resource_max_bytes,
            always_closure=settings.offload_workflow_closures,
            always_inputs=settings.offload_inputs,
        )
        resource = offloading.build(
            workflow.closure,
            LiteralMap.FromString(inputs),
            request.id,
            request.namespace,
            lambda _: workflow.members,
        )
        prepared = prepare(
            resource,
            execution=request.id,
            spec=request.spec,
            config=request.config,
            task_resources=request.engine_inputs.task_resources,
            plugin_overrides=request.engine_inputs.plugin_overrides,
            accepted_at=request.accepted_at,
            role_name_key=settings.iam_role_annotation,
            console_url=settings.console_url,
        )
        return BuiltResource(offloading.limit(prepared), offloading)
