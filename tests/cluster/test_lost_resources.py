"""Which executions a real cluster does not have: by lists of its namespaces."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.executions.config import Settings
from services.executions.engine.kubernetes.clusters import Clusters
from services.executions.engine.kubernetes.engine import FLYTE_WORKFLOW, KubernetesEngine
from services.executions.engine.kubernetes.resources import ResourceBuilder
from services.executions.rules.placements import Placement
from tests.support.executions import execution_id
from tests.support.flyte_workflows import create_namespace
from tests.support.real_api_servers import RealApiServer

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def placement(name: str, namespace: str = "lists", cluster: str = "") -> Placement:
    return Placement(execution_id(name), cluster, namespace, NOW)


@asynccontextmanager
async def engine_of(clusters: list[dict[str, str]], folder: Path) -> AsyncIterator[KubernetesEngine]:
    """Yield an engine that runs nothing."""
    settings = Settings(objects_url=f"file://{folder}", signing_key="key", clusters=clusters)  # type: ignore[arg-type]  # as in the environment
    opened = Clusters.open(settings)
    builder: ResourceBuilder = object()  # type: ignore[assignment]  # builds resources, which is not done here
    yield KubernetesEngine(opened, builder, settings)
    await opened.close()


async def test_executions_without_a_resource_are_missing(api_server: RealApiServer, tmp_path: Path) -> None:
    client = api_server.client()
    for namespace in ("lists", "more-lists"):
        await create_namespace(client, namespace)
    for name, namespace, labels in (
        ("running", "lists", {}),
        ("ended", "lists", {"termination-status": "terminated"}),
        ("elsewhere", "more-lists", {}),
    ):
        content = {
            "apiVersion": FLYTE_WORKFLOW.api_version,
            "kind": FLYTE_WORKFLOW.kind,
            "metadata": {"name": name, "labels": labels},
        }
        await client.create(FLYTE_WORKFLOW, namespace, content)
    await client.close()
    asked = [
        placement("running"),
        placement("ended"),
        placement("never"),
        placement("elsewhere"),
        placement("elsewhere", "more-lists"),
        placement("no-namespace", "none"),
        placement("of-another-cluster", cluster="unknown"),
    ]
    async with engine_of([dict(api_server.settings)], tmp_path) as engine:
        missing = await engine.missing(asked)
    assert [(each.id.name, each.namespace) for each in missing] == [
        ("ended", "lists"),
        ("never", "lists"),
        ("elsewhere", "lists"),
        ("no-namespace", "none"),
    ]


@pytest.mark.parametrize("token", ["wrong"])
async def test_nothing_is_missing_in_a_cluster_that_does_not_list(
    token: str, api_server: RealApiServer, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(token)
    settings = {**api_server.settings, "token_file": str(tmp_path / "token")}
    async with engine_of([settings], tmp_path / "objects") as engine:
        assert await engine.missing([placement("x")]) == []


async def test_execution_without_a_cluster_is_missing_if_no_cluster_has_it(
    api_server: RealApiServer, other_api_server: RealApiServer, tmp_path: Path
) -> None:
    settings = [{"id": "one", **api_server.settings}, {"id": "two", **other_api_server.settings}]
    client = other_api_server.client()
    await create_namespace(client, "found-in-two")
    content = {
        "apiVersion": FLYTE_WORKFLOW.api_version,
        "kind": FLYTE_WORKFLOW.kind,
        "metadata": {"name": "former"},
    }
    await client.create(FLYTE_WORKFLOW, "found-in-two", content)
    await client.close()
    asked = [placement("former", "found-in-two"), placement("gone", "found-in-two")]
    async with engine_of(settings, tmp_path) as engine:
        assert [each.id.name for each in await engine.missing(asked)] == ["gone"]
