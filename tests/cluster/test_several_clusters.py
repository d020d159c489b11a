"""Executions in two clusters: by label and weight, each in one of them, also when one is down."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from flyteidl.admin.matchable_resource_pb2 import ExecutionClusterLabel

from services.executions.engine.kubernetes.engine import FLYTE_WORKFLOW
from services.kit.kubernetes.client import KubernetesClient
from tests.support.control_planes import ControlPlane, control_plane
from tests.support.flyte_workflows import create_namespace, created, eventually, found, is_deleted
from tests.support.parts import Parts
from tests.support.real_api_servers import RealApiServer

NAMESPACE = "clusters"
WEIGHTS = {"mostly-one": {"one": 0.8, "two": 0.2}, "only-two": {"two": 1.0}}
MANY = 60


@pytest.fixture(scope="module")
async def clients(
    api_server: RealApiServer, other_api_server: RealApiServer
) -> AsyncIterator[dict[str, KubernetesClient]]:
    opened = {"one": api_server.client(), "two": other_api_server.client()}
    for client in opened.values():
        await create_namespace(client, NAMESPACE)
    yield opened
    for client in opened.values():
        await client.close()


@pytest.fixture(scope="module")
async def plane(
    parts: Parts,
    api_server: RealApiServer,
    other_api_server: RealApiServer,
    clients: dict[str, KubernetesClient],
) -> AsyncIterator[ControlPlane]:
    assert set(clients) == {"one", "two"}
    settings = [{"id": "one", **api_server.settings}, {"id": "two", **other_api_server.settings}]
    async with control_plane(
        parts, "two_clusters", settings, NAMESPACE, cluster_weights=WEIGHTS, abort_patience_seconds=3600
    ) as running:
        yield running


def labelled(label: str) -> dict[str, Any]:
    return {"execution_cluster_label": ExecutionClusterLabel(value=label)}


async def test_each_execution_is_in_the_cluster_that_its_row_names(
    plane: ControlPlane, clients: dict[str, KubernetesClient]
) -> None:
    names = {f"many-{number}" for number in range(MANY)}
    for name in names:
        await plane.launch(name, **labelled("mostly-one"))
    lists: dict[str, set[str]] = {}

    async def all_created() -> bool:
        for cluster, client in clients.items():
            lists[cluster] = {name for name in await client.names(FLYTE_WORKFLOW, NAMESPACE) if name in names}
        return lists["one"] | lists["two"] == names

    await eventually(all_created)
    assert not lists["one"] & lists["two"]
    rows = await plane.rows("execution_name, cluster", "execution_name LIKE 'many-%%'")
    assert {name for name, cluster in rows if cluster == "one"} == lists["one"]
    count = Counter(cluster for _, cluster in rows)
    assert count["one"] > count["two"] > 0
    shown = await plane.get("many-1")
    assert shown.spec.metadata.system_metadata.execution_cluster == dict(rows)["many-1"]
    assert shown.spec.metadata.system_metadata.namespace == NAMESPACE


async def test_label_decides_on_the_cluster_and_the_execution_is_stopped_there(
    plane: ControlPlane, clients: dict[str, KubernetesClient]
) -> None:
    await plane.launch("labelled", **labelled("only-two"))
    await created(clients["two"], NAMESPACE, "labelled")
    assert await found(clients["one"], NAMESPACE, "labelled") is None
    await plane.terminate("labelled")
    await eventually(lambda: is_deleted(clients["two"], NAMESPACE, "labelled"))
    assert await plane.phase("labelled") == "ABORTING"


async def test_cluster_that_is_down_does_not_delay_the_other(
    plane: ControlPlane, clients: dict[str, KubernetesClient], other_api_server: RealApiServer
) -> None:
    await asyncio.to_thread(other_api_server.stop)
    down = {f"down-{number}" for number in range(40)}
    for name in down:
        await plane.launch(name, **labelled("only-two"))
    names = {f"up-{number}" for number in range(20)}
    for name in names:
        await plane.launch(name, **labelled("mostly-one"))
    rows = dict(await plane.rows("execution_name, cluster"))

    async def others_created() -> bool:
        rows.update(await plane.rows("execution_name, cluster", "execution_name LIKE 'up-%%' AND cluster <> ''"))
        expected = {name for name in names if rows[name] == "one"}
        listed = await clients["one"].names(FLYTE_WORKFLOW, NAMESPACE)
        return all(rows[name] for name in names) and expected <= listed

    await eventually(others_created, 10)
    assert {phase for (phase,) in await plane.rows("phase", "execution_name LIKE 'down-%%'")} == {"UNDEFINED"}
    await asyncio.to_thread(other_api_server.start)

    async def rest_created() -> bool:
        return down <= await clients["two"].names(FLYTE_WORKFLOW, NAMESPACE)

    await eventually(rest_created, 60)
    assert not down & await clients["one"].names(FLYTE_WORKFLOW, NAMESPACE)
