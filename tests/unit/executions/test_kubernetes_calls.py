"""Calls of the engine `kubernetes` to an API server over real sockets: what each response means."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flyteidl.admin.execution_pb2 import ExecutionSpec
from flyteidl.admin.matchable_resource_pb2 import TaskResourceAttributes, WorkflowExecutionConfig
from flyteidl.core.identifier_pb2 import Identifier, WorkflowExecutionIdentifier
from prometheus_client import REGISTRY
from pydantic import ValidationError

from services.contracts.engine import EngineInputs, RunRequest
from services.executions.config import Settings
from services.executions.engine.kubernetes import clusters as clusters_module
from services.executions.engine.kubernetes.clusters import Clusters
from services.executions.engine.kubernetes.engine import KubernetesEngine
from services.executions.engine.kubernetes.resources import BuiltResource
from services.executions.rules.flyteworkflow import Offloading, identity
from services.executions.rules.flyteworkflow.encoding import Json
from services.executions.rules.placements import Placement
from services.kit.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
    ServiceError,
    Unavailable,
)
from tests.support.api_servers import PlayedServer, Received, failure, played_server
from tests.support.parts import free_port
from tests.support.waiting import until

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
EXECUTION = WorkflowExecutionIdentifier(project="p", domain="d", name="e")
RESOURCE: Json = {
    "metadata": {"name": "e"},
    "spec": {"nodes": {}},
    "tasks": {},
    "inputs": {"literals": {}},
    **identity(EXECUTION, NOW),
}
PLACEMENT = Placement(EXECUTION, "", "ns", NOW)
FOREIGN = {**RESOURCE, "acceptedAt": "2020-01-01T00:00:00Z", "metadata": {"name": "e", "uid": "u"}}
OWN = {**RESOURCE, "metadata": {"name": "e", "uid": "u"}, "status": {"phase": 1}}
EXISTS = failure(409, "AlreadyExists", 'flyteworkflows "e" already exists')
MISSING = failure(404, "NotFound", 'flyteworkflows "e" not found')


class Builder:
    """Builds the same resource for every execution."""

    async def build(self, _request: RunRequest) -> BuiltResource:
        return BuiltResource(RESOURCE, Offloading("s3://closure", "s3://inputs", 10_000))


def request(label: str = "", cluster: str = "") -> RunRequest:
    spec = ExecutionSpec()
    spec.metadata.system_metadata.namespace = "ns"
    if label:
        spec.execution_cluster_label.value = label
    inputs = EngineInputs(TaskResourceAttributes())
    return RunRequest(EXECUTION, Identifier(), spec, WorkflowExecutionConfig(), "", inputs, NOW, cluster=cluster)


def settings_of(folder: Path, **settings: Any) -> Settings:
    return Settings(objects_url=f"file://{folder}", signing_key="key", **settings)


@pytest.fixture
def server() -> Iterator[PlayedServer]:
    with played_server(lambda _: (201, {})) as running:
        yield running


@pytest.fixture
async def engine(server: PlayedServer, tmp_path: Path) -> AsyncIterator[KubernetesEngine]:
    settings = settings_of(tmp_path, clusters=[{"server": server.url}])
    clusters = Clusters.open(settings)
    yield KubernetesEngine(clusters, Builder(), settings)  # type: ignore[arg-type]  # has its only method
    await clusters.close()


def by_verb(**responses: tuple[int, Any]) -> Any:
    return lambda received: responses[received.verb]


async def test_resource_is_created_in_the_namespace_of_the_execution(
    engine: KubernetesEngine, server: PlayedServer
) -> None:
    await engine.run(request())
    (received,) = server.received
    assert received.path == "/apis/flyte.lyft.com/v1alpha1/namespaces/ns/flyteworkflows"
    assert json.loads(received.body) == RESOURCE


async def test_own_resource_that_exists_is_success(engine: KubernetesEngine, server: PlayedServer) -> None:
    server.respond = by_verb(POST=EXISTS, GET=(200, OWN))
    await engine.run(request())


async def test_foreign_resource_that_exists_is_a_refusal(engine: KubernetesEngine, server: PlayedServer) -> None:
    server.respond = by_verb(POST=EXISTS, GET=(200, FOREIGN))
    with pytest.raises(FailedPrecondition, match='flyteworkflows "e" already exists, for another execution'):
        await engine.run(request())


async def test_resource_that_is_gone_when_it_is_compared_is_created_later(
    engine: KubernetesEngine, server: PlayedServer
) -> None:
    server.respond = by_verb(POST=EXISTS, GET=MISSING)
    with pytest.raises(Unavailable):
        await engine.run(request())


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (failure(400, "BadRequest", "words"), InvalidArgument),
        (failure(401, "Unauthorized", "words"), Unavailable),
        (failure(403, "Forbidden", "words"), PermissionDenied),
        (failure(404, "NotFound", "words"), Unavailable),
        (failure(409, "Conflict", "words"), Unavailable),
        (failure(422, "Invalid", "words"), InvalidArgument),
        (failure(429, "TooManyRequests", "words"), ResourceExhausted),
        (failure(500, "InternalError", "words"), Unavailable),
        (failure(503, "ServiceUnavailable", "words"), Unavailable),
    ],
)
async def test_refusals_have_the_words_of_the_server(
    response: tuple[int, Any], kind: type[ServiceError], engine: KubernetesEngine, server: PlayedServer
) -> None:
    server.respond = lambda _: response
    with pytest.raises(ServiceError) as raised:
        await engine.run(request())
    assert type(raised.value) is kind
    assert raised.value.message.startswith("failed to create workflow in propeller: ")
    assert raised.value.message.endswith("words")


async def test_resource_that_is_too_large_is_offloaded(engine: KubernetesEngine, server: PlayedServer) -> None:
    def respond(received: Received) -> tuple[int, Any]:
        small = json.loads(received.body)["spec"] is None
        return (201, {}) if small else failure(413, "RequestEntityTooLarge", "limit is 3145728")

    server.respond = respond
    await engine.run(request())
    content = json.loads(server.received[-1].body)
    assert content["workflowClosureReference"] == "s3://closure"
    assert content["offloadedInputs"] == "s3://inputs"


async def test_resource_that_stays_too_large_is_refused(engine: KubernetesEngine, server: PlayedServer) -> None:
    server.respond = lambda _: failure(500, "", "etcdserver: request is too large")
    with pytest.raises(FailedPrecondition, match="failed to create workflow in propeller: etcdserver"):
        await engine.run(request())
    assert len(server.received) == 2


async def test_stop_deletes_the_object_that_it_has_read(engine: KubernetesEngine, server: PlayedServer) -> None:
    server.respond = by_verb(GET=(200, OWN), DELETE=(200, {}))
    assert await engine.stop(PLACEMENT)
    assert json.loads(server.received[-1].body)["preconditions"] == {"uid": "u"}


@pytest.mark.parametrize("read", [(200, FOREIGN), MISSING])
async def test_stop_without_an_own_resource_deletes_nothing(
    read: tuple[int, Any], engine: KubernetesEngine, server: PlayedServer
) -> None:
    server.respond = by_verb(GET=read)
    assert not await engine.stop(PLACEMENT)


async def test_stop_of_a_resource_that_is_replaced_meanwhile_is_tried_again(
    engine: KubernetesEngine, server: PlayedServer
) -> None:
    server.respond = by_verb(GET=(200, OWN), DELETE=failure(409, "Conflict", "the uid differs"))
    with pytest.raises(Unavailable, match="failed to terminate execution: the uid differs"):
        await engine.stop(PLACEMENT)


async def test_unavailable_cluster_fails_calls_at_once_until_a_probe_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters_module, "_PROBE_SECONDS", 0.02)
    address = tmp_path / "address"
    address.write_text(f"http://127.0.0.1:{free_port()}")
    settings = settings_of(tmp_path, clusters=[{"id": "c", "server": address.read_text()}])
    clusters = Clusters.open(settings)
    engine = KubernetesEngine(clusters, Builder(), settings)  # type: ignore[arg-type]  # has its only method
    with pytest.raises(Unavailable, match="the API server c cannot be reached"):
        await engine.run(request(cluster="c"))
    waiting = asyncio.create_task(engine.available())
    with pytest.raises(Unavailable, match="the API server c cannot be reached"):
        await engine.run(request(cluster="c"))
    assert available() == 0
    assert not waiting.done()
    with played_server(lambda _: (200, {}), port=int(address.read_text().rpartition(":")[2])) as server:
        await waiting
        assert available() == 1
        await engine.run(request(cluster="c"))
        assert {received.path for received in server.received if received.verb == "GET"} == {"/readyz"}
    await clusters.close()


def available() -> float | None:
    return REGISTRY.get_sample_value("flyteplane_engine_cluster_available", {"cluster": "c"})


def test_cluster_is_chosen_by_label_and_weight(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path,
        clusters=[{"id": "a", "server": "http://a"}, {"id": "b", "server": "http://b", "enabled": False}],
        cluster_weights={"x": {"a": 1}, "y": {"b": 1}},
        default_cluster_label="x",
    )
    engine = KubernetesEngine(Clusters({}), Builder(), settings)  # type: ignore[arg-type]  # has its only method
    assert {engine.choose_cluster(request(label)) for label in ("", "x", "y", "z")} == {"a"}


def test_single_cluster_without_an_id_accepts_no_label(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    engine = KubernetesEngine(Clusters({}), Builder(), settings)  # type: ignore[arg-type]  # has its only method
    assert engine.choose_cluster(request()) == ""
    with pytest.raises(Internal, match=r"execution cluster label \[x\]"):
        engine.choose_cluster(request("x"))


async def test_stored_ids_name_configured_clusters_only(tmp_path: Path) -> None:
    single = Clusters.open(settings_of(tmp_path, clusters=[{"server": "http://a"}]))
    assert single.get("id") is single.get("")
    with pytest.raises(Internal, match="remote target c is not supported"):
        single.get("c")
    several = Clusters.open(
        settings_of(tmp_path, clusters=[{"id": "a", "server": "http://a"}, {"id": "b", "server": "http://b"}])
    )
    with pytest.raises(Internal, match="invalid cluster target c"):
        several.get("c")
    assert [cluster.name for cluster in several.that_may_have("")] == ["a", "b"]
    assert [cluster.name for cluster in several.that_may_have("b")] == ["b"]
    await single.close()
    await several.close()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"cluster_weights": {"x": {"c": 1}}}, "names c, which clusters does not have"),
        (
            {"clusters": [{"id": "a"}], "cluster_weights": {"x": {"a": -1}}},
            "must not be negative",
        ),
        ({"default_cluster_label": "x"}, "must be a label of cluster_weights"),
    ],
)
def test_wrong_weights_are_refused(settings: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=problem):
        settings_of(tmp_path, **settings)


async def test_cluster_that_comes_back_is_seen_without_a_call(
    server: PlayedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it is a server that is not ready yet."""
    monkeypatch.setattr(clusters_module, "_PROBE_SECONDS", 0.02)
    clusters = Clusters.open(settings_of(tmp_path, clusters=[{"id": "c", "server": server.url}]))
    cluster = clusters.get("c")
    server.respond = lambda _: failure(504, "Timeout", "etcd")
    with pytest.raises(ServiceError), cluster.calling() as client:
        await client.check()
    server.respond = lambda _: failure(500, "", "not ready")
    before = len(server.received)
    await until(lambda: len(server.received) > before + 1)
    with pytest.raises(Unavailable):
        cluster.check()
    server.respond = lambda _: failure(403, "Forbidden", "anonymous")  # it responds, which is enough
    await cluster.wait()
    await clusters.close()
