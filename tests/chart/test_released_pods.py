"""Every container of a rendered release runs as a local process, and the main path works through its gateway."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import psycopg
import pytest

from tests.support.chart_queries import queried_metrics
from tests.support.helm import render
from tests.support.released import WORKLOADS, Release, running_release

GATEWAY_METRICS = "/stats/prometheus"


@pytest.fixture(scope="module")
async def release() -> AsyncIterator[Release]:
    """Run a release of the trial's values."""
    async with running_release(render(["trial.yaml"])) as running:
        yield running


async def test_release_test_registers_launches_and_reads_back(release: Release) -> None:
    pod = release.node.pod("Pod", "flyteplane-test")
    assert "registered, launched and read back" in await release.kubelet.complete(pod)


async def test_rest_call_passes_the_rendered_gateway(release: Release) -> None:
    async with httpx.AsyncClient(base_url=f"http://{release.targets()[0]}") as client:
        projects = (await client.get("/api/v1/projects")).json()["projects"]
    assert [project["id"] for project in projects] == ["flytesnacks"]


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
async def test_every_probe_succeeds(release: Release, probe: str) -> None:
    for pods in release.pods.values():
        for pod in pods:
            for container in pod.spec["containers"]:
                assert await release.kubelet.probe(pod, container, probe), (pod.component, probe)


async def test_metrics_of_dashboard_and_alerts_are_scraped_from_the_pods(release: Release) -> None:
    scraped = set()
    async with httpx.AsyncClient() as client:
        for component in WORKLOADS:
            (pod,) = release.pods[component]
            address = (
                f"{pod.address}:9902{GATEWAY_METRICS}" if component == "gateway" else f"{pod.address}:8082/metrics"
            )
            page = (await client.get(f"http://{address}")).text
            scraped |= {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")}
    absent = {name for name in queried_metrics() if name not in scraped and name.rpartition("_")[0] not in scraped}
    # Of pods that the trial does not have.
    assert {name for name in absent if "_cluster_resources_" not in name} == set()


async def test_admin_interface_of_the_gateway_is_not_reachable_by_its_metrics_port(release: Release) -> None:
    (pod,) = release.pods["gateway"]
    async with httpx.AsyncClient(base_url=f"http://{pod.address}:9902") as client:
        replies = [await client.get("/config_dump"), await client.post("/quitquitquit"), await client.post("/ready")]
    assert [reply.status_code for reply in replies] == [404] * 3


async def test_release_before_runs_on_the_schema_of_a_newer_one(release: Release) -> None:
    (pod,) = release.pods["projects"]
    environment = release.node.environment(pod, pod.spec["containers"][0])
    url, password = environment["FLYTEPLANE_DATABASE_URL"], environment["PGPASSWORD"]
    with psycopg.connect(url, password=password, autocommit=True) as connection:
        (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone() or ("",)
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        try:
            assert '"version": "9999"' in await release.migrate()
            await asyncio.gather(release.kubelet.end(pod))
            release.pods["projects"].clear()
            await release.start("projects", 0)
        finally:
            connection.execute("UPDATE alembic_version SET version_num = %s", (version,))
    log = release.pods["projects"][0].running["projects"].log.read_text()
    assert "a newer release has upgraded the database" in log
