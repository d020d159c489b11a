"""Executions on a real API server: created once, deleted when terminated, failed with the server's words."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from flyteidl.core.execution_pb2 import ExecutionError
from google.protobuf.timestamp_pb2 import Timestamp

from services.contracts.executions import EXECUTION_CREATED
from services.executions.engine.kubernetes.engine import FLYTE_WORKFLOW
from services.kit.kubernetes.client import KubernetesClient
from services.kit.messaging.bus import Bus
from tests.support.control_planes import ControlPlane, control_plane
from tests.support.entities import DOMAIN, PROJECT
from tests.support.executions import execution_id
from tests.support.flyte_workflows import create_namespace, created, eventually, found, is_deleted
from tests.support.parts import Parts
from tests.support.real_api_servers import RealApiServer

NAMESPACE = "runs"


@pytest.fixture
async def client(api_server: RealApiServer) -> AsyncIterator[KubernetesClient]:
    opened = api_server.client()
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
async def plane(parts: Parts, api_server: RealApiServer) -> AsyncIterator[ControlPlane]:
    opened = api_server.client()
    await create_namespace(opened, NAMESPACE)
    await opened.close()
    async with control_plane(parts, "engine_runs", [api_server.settings], NAMESPACE) as running:
        yield running


async def release(api_server: RealApiServer, name: str) -> None:
    """Remove the finalizer of a resource, as flytepropeller does when it has aborted the nodes."""
    path = FLYTE_WORKFLOW.path(NAMESPACE, name)
    await asyncio.to_thread(api_server.request, "PATCH", path, {"metadata": {"finalizers": None}})


async def announce_again(parts: Parts, *names: str) -> None:
    """Announce executions as created once more, and wait until that is processed."""
    bus = await Bus.connect(parts.nats_url, "tests")
    for name in names:
        await bus.append(EXECUTION_CREATED.subject, execution_id(name).SerializeToString(), f"again-{name}")
    await bus.close()


async def test_launched_execution_becomes_a_resource(plane: ControlPlane, client: KubernetesClient) -> None:
    await plane.launch("created", labels={"values": {"team": "fruit"}})
    resource = await created(client, NAMESPACE, "created")
    assert resource["kind"] == "FlyteWorkflow"
    assert resource["executionId"] == {"project": PROJECT, "domain": DOMAIN, "name": "created"}
    assert resource["metadata"]["finalizers"] == ["flyte.org/finalizer"]
    assert resource["metadata"]["labels"]["team"] == "fruit"
    assert resource["metadata"]["labels"]["execution-id"] == "created"
    assert resource["inputs"] == {"literals": {"a": {"scalar": {"primitive": {"integer": "1"}}}}}
    assert list(resource["spec"]["nodes"]) == ["end-node", "n0", "start-node"]
    (task,) = resource["tasks"].values()
    assert {"name": "CPU", "value": "2"} in task["container"]["resources"]["requests"]
    accepted = Timestamp()
    accepted.FromJsonString(resource["acceptedAt"])
    execution = await plane.get("created")
    assert accepted.seconds == execution.closure.created_at.seconds
    assert await plane.phase("created") == "UNDEFINED"
    assert execution.spec.metadata.system_metadata.namespace == NAMESPACE
    assert await plane.rows("cluster", "execution_name = 'created'") == [("",)]


async def test_second_submission_changes_nothing(plane: ControlPlane, client: KubernetesClient, parts: Parts) -> None:
    await plane.launch("twice")
    first = await created(client, NAMESPACE, "twice")
    await announce_again(parts, "twice", "twice")
    await plane.launch("after-twice")
    await created(client, NAMESPACE, "after-twice")
    assert await found(client, NAMESPACE, "twice") == first
    assert await plane.phase("twice") == "UNDEFINED"


async def test_foreign_resource_of_the_same_name_fails_the_execution_and_stays(
    plane: ControlPlane, client: KubernetesClient
) -> None:
    foreign = {
        "apiVersion": FLYTE_WORKFLOW.api_version,
        "kind": FLYTE_WORKFLOW.kind,
        "metadata": {"name": "foreign"},
        "executionId": {"project": PROJECT, "domain": DOMAIN, "name": "foreign"},
        "acceptedAt": "2020-01-01T00:00:00Z",
    }
    await client.create(FLYTE_WORKFLOW, NAMESPACE, foreign)
    before = await found(client, NAMESPACE, "foreign")
    await plane.launch("foreign")
    assert await eventually(lambda: has_phase(plane, "foreign", "FAILED"))
    error = (await plane.get("foreign")).closure.error
    assert (error.code, error.kind) == ("FailedPrecondition", ExecutionError.SYSTEM)
    assert 'flyteworkflows.flyte.lyft.com "foreign" already exists, for another execution' in error.message
    assert await found(client, NAMESPACE, "foreign") == before


async def has_phase(plane: ControlPlane, name: str, phase: str) -> bool:
    return await plane.phase(name) == phase


async def test_terminated_execution_is_deleted_and_waits_for_its_engine(
    plane: ControlPlane, client: KubernetesClient, api_server: RealApiServer
) -> None:
    await plane.launch("stopped")
    await created(client, NAMESPACE, "stopped")
    await plane.terminate("stopped")
    await eventually(lambda: is_deleted(client, NAMESPACE, "stopped"))
    assert await plane.phase("stopped") == "ABORTING"
    await release(api_server, "stopped")
    assert await found(client, NAMESPACE, "stopped") is None


async def test_execution_terminated_while_it_is_created_leaves_nothing_that_runs(
    plane: ControlPlane, client: KubernetesClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The termination is processed before the API server receives the resource."""
    entered, gate = asyncio.Event(), asyncio.Event()
    create = KubernetesClient.create

    async def late(self: KubernetesClient, *arguments: Any, **options: Any) -> None:
        entered.set()
        await gate.wait()
        await create(self, *arguments, **options)

    monkeypatch.setattr(KubernetesClient, "create", late)
    await plane.launch("crossed")
    await entered.wait()
    await plane.terminate("crossed")
    assert await eventually(lambda: has_phase(plane, "crossed", "ABORTED"))
    gate.set()
    resource = await created(client, NAMESPACE, "crossed")
    await eventually(lambda: is_deleted(client, NAMESPACE, "crossed"))
    assert resource["executionId"]["name"] == "crossed"


async def test_termination_while_the_server_is_down_is_made_up_for(
    plane: ControlPlane, client: KubernetesClient, api_server: RealApiServer
) -> None:
    await plane.launch("outlasting")
    await created(client, NAMESPACE, "outlasting")
    await asyncio.to_thread(api_server.stop)
    await plane.terminate("outlasting")
    await plane.launch("during-outage")
    await asyncio.sleep(2)  # several tries
    assert (await plane.phase("outlasting"), await plane.phase("during-outage")) == ("ABORTING", "UNDEFINED")
    await asyncio.to_thread(api_server.start)
    await eventually(lambda: is_deleted(client, NAMESPACE, "outlasting"), 60)
    await created(client, NAMESPACE, "during-outage")


async def test_stop_leaves_a_foreign_resource(
    plane: ControlPlane, client: KubernetesClient, api_server: RealApiServer
) -> None:
    await plane.launch("recreated")
    resource = await created(client, NAMESPACE, "recreated")
    await client.delete(FLYTE_WORKFLOW, NAMESPACE, "recreated")
    await release(api_server, "recreated")
    assert await found(client, NAMESPACE, "recreated") is None
    foreign = {key: value for key, value in resource.items() if key != "metadata"}
    foreign |= {"metadata": {"name": "recreated"}, "acceptedAt": "2020-01-01T00:00:00Z"}
    await client.create(FLYTE_WORKFLOW, NAMESPACE, foreign)
    await plane.terminate("recreated")
    assert await eventually(lambda: has_phase(plane, "recreated", "ABORTED"))
    assert not await is_deleted(client, NAMESPACE, "recreated")
