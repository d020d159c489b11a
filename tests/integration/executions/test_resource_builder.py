"""Building of FlyteWorkflow resources from registered workflows and stored inputs, with a real NATS server."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from flyteidl.admin.common_pb2 import ObjectGetRequest, UrlBlob
from flyteidl.admin.execution_pb2 import ExecutionSpec
from flyteidl.admin.matchable_resource_pb2 import TaskResourceAttributes, TaskResourceSpec, WorkflowExecutionConfig
from flyteidl.admin.workflow_pb2 import WorkflowClosure
from flyteidl.core.compiler_pb2 import CompiledTask, CompiledWorkflow, CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import ResourceType
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.workflow_pb2 import Node, WorkflowTemplate

from services.contracts.engine import EngineInputs, RunRequest
from services.contracts.registry import LOCATE_WORKFLOW_CLOSURE
from services.executions.config import Settings
from services.executions.engine.kubernetes.resources import ResourceBuilder
from services.executions.engine.kubernetes.workflows import RunnableWorkflows
from services.kit.errors import NotFound
from services.kit.messaging.bus import Bus
from services.kit.objects.store import ObjectStore
from services.kit.rpc.cpu_pool import CpuPool
from tests.support.entities import INTEGER, identifier, interface, literals, promise, task, task_node
from tests.support.executions import execution_id
from tests.support.parts import Parts

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Registry:
    """Locates the closures in `uris`, and counts the requests."""

    def __init__(self) -> None:
        self.uris: dict[str, str] = {}
        self.requests = 0

    async def locate(self, request: ObjectGetRequest) -> UrlBlob:
        self.requests += 1
        if request.id.name not in self.uris:
            raise NotFound(f"missing workflow {request.id.name}")
        return UrlBlob(url=self.uris[request.id.name])


@pytest.fixture
async def registry(parts: Parts) -> AsyncIterator[Registry]:
    bus = await Bus.connect(parts.nats_url, "registry")
    serving = Registry()
    await bus.serve(LOCATE_WORKFLOW_CLOSURE, serving.locate)
    yield serving
    await bus.close()


@pytest.fixture
async def objects(parts: Parts, registry: Registry) -> ObjectStore:
    store = ObjectStore.open(f"file://{parts.folder}/built", "", "key")
    content = WorkflowClosure(compiled_workflow=closure("wf")).SerializeToString()
    registry.uris["wf"] = store.uri("wf")
    await store.put(store.uri("wf"), content)
    await store.put(store.uri("inputs"), literals(a=3).SerializeToString())
    return store


def closure(name: str) -> CompiledWorkflowClosure:
    """Return a compiled workflow of one task."""
    template = WorkflowTemplate(
        id=identifier(ResourceType.WORKFLOW, name),
        interface=interface({"a": INTEGER}, {}),
        nodes=[Node(id="start-node"), Node(id="end-node"), task_node("n0", "t", promise("a", "", "a"))],
    )
    request = task("t", {"a": INTEGER}, {})
    request.spec.template.id.CopyFrom(request.id)
    compiled = CompiledWorkflowClosure(
        primary=CompiledWorkflow(template=template), tasks=[CompiledTask(template=request.spec.template)]
    )
    connections = compiled.primary.connections
    for source, target in (("start-node", "n0"), ("n0", "end-node")):
        connections.downstream[source].ids.append(target)
        connections.upstream[target].ids.append(source)
    return compiled


@pytest.fixture
async def bus(parts: Parts) -> AsyncIterator[Bus]:
    connected = await Bus.connect(parts.nats_url, "executions")
    yield connected
    await connected.close()


def builder_of(bus: Bus, objects: ObjectStore, **settings: Any) -> ResourceBuilder:
    cpu_pool = CpuPool()
    configured = Settings(objects_url=objects.uri(), signing_key="key", **settings)
    return ResourceBuilder(RunnableWorkflows(bus, objects, cpu_pool), objects, cpu_pool, configured)


def request(objects: ObjectStore, workflow: str = "wf", **inputs: Any) -> RunRequest:
    spec = ExecutionSpec()
    spec.metadata.system_metadata.namespace = "ns"
    return RunRequest(
        execution_id("built"),
        identifier(ResourceType.WORKFLOW, workflow),
        spec,
        WorkflowExecutionConfig(max_parallelism=7),
        objects.uri("inputs"),
        EngineInputs(TaskResourceAttributes(), **inputs),
        NOW,
    )


async def test_resource_has_the_workflow_and_the_inputs(bus: Bus, objects: ObjectStore) -> None:
    built = (await builder_of(bus, objects).build(request(objects))).content
    assert built["metadata"]["namespace"] == "ns"
    assert built["executionId"]["name"] == built["metadata"]["name"] == "built"
    assert built["acceptedAt"] == "2026-01-02T03:04:05Z"
    assert built["inputs"] == {"literals": {"a": {"scalar": {"primitive": {"integer": "3"}}}}}
    assert set(built["spec"]["nodes"]) == {"start-node", "n0", "end-node"}
    assert built["executionConfig"]["MaxParallelism"] == 7


async def test_tasks_have_the_resources_and_the_queue_of_the_execution(bus: Bus, objects: ObjectStore) -> None:
    builder = builder_of(bus, objects)
    resources = TaskResourceAttributes(defaults=TaskResourceSpec(cpu="500m"))
    large = request(objects)
    changed = RunRequest(**{**vars(large), "engine_inputs": EngineInputs(resources), "child_queue": "fast"})
    (plain_task,) = (await builder.build(large)).content["tasks"].values()
    (prepared_task,) = (await builder.build(changed)).content["tasks"].values()
    assert "config" not in plain_task["container"]
    assert prepared_task["container"]["config"] == [{"key": "child_queue", "value": "fast"}]
    assert {"name": "CPU", "value": "500m"} in prepared_task["container"]["resources"]["requests"]


async def test_workflow_is_read_once(bus: Bus, objects: ObjectStore, registry: Registry) -> None:
    builder = builder_of(bus, objects)
    first, second = [await builder.build(request(objects)) for _ in range(2)]
    assert first.content == second.content
    assert registry.requests == 1


async def test_offloaded_parts_are_named_by_their_uris(bus: Bus, objects: ObjectStore) -> None:
    builder = builder_of(bus, objects, offload_workflow_closures=True, offload_inputs=True)
    built = (await builder.build(request(objects))).content
    assert (built["workflowClosureReference"], built["offloadedInputs"]) == (objects.uri("wf"), objects.uri("inputs"))
    assert (built["spec"], built["tasks"]) == (None, None)


async def test_smallest_resource_contains_neither_workflow_nor_inputs(bus: Bus, objects: ObjectStore) -> None:
    built = await builder_of(bus, objects).build(request(objects))
    smallest = built.smallest()
    assert smallest["spec"] is None
    assert "inputs" not in smallest
    assert built.content["spec"] is not None


async def test_missing_workflow_or_inputs_refuse_the_execution(
    bus: Bus, objects: ObjectStore, registry: Registry
) -> None:
    builder = builder_of(bus, objects)
    with pytest.raises(NotFound, match="missing workflow gone"):
        await builder.build(request(objects, "gone"))
    registry.uris["lost"] = objects.uri("lost")
    with pytest.raises(NotFound, match="object not found"):
        await builder.build(request(objects, "lost"))


async def test_large_inputs_are_built_in_a_thread_with_the_same_result(bus: Bus, objects: ObjectStore) -> None:
    number = literals(a=3).literals["a"]
    large = LiteralMap(literals={"a": number})
    large.literals["a"].metadata["note"] = "x" * 100_000
    await objects.put(objects.uri("inputs"), large.SerializeToString())
    built = (await builder_of(bus, objects).build(request(objects))).content
    assert built["inputs"]["literals"]["a"]["metadata"]["note"] == "x" * 100_000
