"""A rendered release with an engine, an S3 server and a real API server: service accounts have what they need."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import pytest
from flyteidl.admin.execution_pb2 import (
    ExecutionCreateRequest,
    ExecutionSpec,
    ExecutionTerminateRequest,
    WorkflowExecutionGetDataRequest,
)
from flyteidl.core.identifier_pb2 import ResourceType
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from tests.support import entities
from tests.support.certificates import own_certificate
from tests.support.cluster_binaries import NoGo, binaries
from tests.support.helm import NAMESPACE, merge, render
from tests.support.manifests import KubernetesObject, Manifests
from tests.support.real_api_servers import RealApiServer, real_api_server
from tests.support.released import Release, running_release
from tests.support.s3 import REGION, S3, running_s3
from tests.support.waiting import until

ENGINE = {
    "trial": {"objectStore": {"enabled": False}},
    "engine": {"type": "kubernetes"},
    "clusterResources": {"enabled": True},
}
WORKFLOWS = "/apis/flyte.lyft.com/v1alpha1/namespaces/flytesnacks-development/flyteworkflows"
# A round of cluster resources that begins with a failure is repeated after some seconds.
SECONDS = 30.0
HOST = "flyte.example.com"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    """Run an S3 server."""
    with running_s3({"flyte": REGION}) as running:
        yield running


@pytest.fixture(scope="module")
def server() -> Iterator[RealApiServer]:
    """Run an API server with the release's namespace."""
    try:
        binaries()
    except NoGo as missing:
        pytest.skip(str(missing))
    with TemporaryDirectory(prefix="fp-") as folder, real_api_server(Path(folder) / "api") as running:
        running.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        yield running


@pytest.fixture(scope="module")
async def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a certificate of the gateway, and its key."""
    return await own_certificate(tmp_path_factory.mktemp("certificate"), f"DNS:{HOST}")


@pytest.fixture(scope="module")
async def release(server: RealApiServer, s3: S3, certificate: tuple[Path, Path]) -> AsyncIterator[Release]:
    """Run a release whose pods have the tokens of the service accounts that the chart makes."""
    store = {"url": "s3://flyte/plane", "endpoint": s3.url, "region": REGION, "existingSecret": "objects"}
    tls = {"existingSecret": "certificate", "caKey": "ca.crt", "serverName": HOST}
    values = merge({"objectStore": store, "gateway": {"tls": tls}}, ENGINE)
    _install(server, render(["trial.yaml"], values))
    cluster = {"id": "main", "server": server.url, "existingSecret": "cluster"}
    outside = render(
        ["trial.yaml"], merge({"engine": {"type": "kubernetes", "clusters": [cluster]}}, values | {"engine": {}})
    )
    secrets = [
        _secret("objects", s3.keys),
        _secret("cluster", {"ca.crt": server.ca_file.read_text(), "token": "its own"}),
    ]
    chain, key = (file.read_text() for file in certificate)
    secrets.append(_secret("certificate", {"tls.crt": chain, "tls.key": key, "ca.crt": chain}))
    components = ("executions", "cluster-resources")
    tokens = {component: _token(server, f"flyteplane-{component}") for component in components}
    manifests = Manifests([*outside.objects, *secrets])
    async with running_release(manifests, more=["cluster-resources"], tokens=tokens) as running:
        yield running


async def test_execution_becomes_a_resource_and_its_termination_deletes_it(
    release: Release, server: RealApiServer, certificate: tuple[Path, Path]
) -> None:
    await until(lambda: bool(_namespaces(server)), SECONDS)
    credentials = grpc.ssl_channel_credentials(certificate[0].read_bytes())
    options = [("grpc.ssl_target_name_override", HOST)]
    async with grpc.aio.secure_channel(release.targets()[0], credentials, options=options) as channel:
        admin = AdminServiceStub(channel)
        await admin.CreateTask(entities.task("launched", {"a": entities.INTEGER}, {}), timeout=15)
        spec = ExecutionSpec(launch_plan=entities.identifier(ResourceType.TASK, "launched"))
        request = ExecutionCreateRequest(
            project=entities.PROJECT, domain=entities.DOMAIN, name="first", spec=spec, inputs=entities.literals(a=5)
        )
        created = await admin.CreateExecution(request, timeout=15)
        await until(lambda: len(_workflows(server)) == 1, SECONDS)
        (resource,) = _workflows(server)
        assert resource["metadata"]["name"] == "first"
        assert resource["inputs"]["literals"]["a"]["scalar"]["primitive"]["integer"] == "5"
        data = await admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=created.id), timeout=15)
        assert data.full_inputs == request.inputs
        await admin.TerminateExecution(ExecutionTerminateRequest(id=created.id, cause="seen"), timeout=15)
    # The finalizer of flytepropeller, which does not run here, keeps the object.
    await until(lambda: "deletionTimestamp" in _workflows(server)[0]["metadata"], SECONDS)


async def test_release_test_calls_by_tls(release: Release) -> None:
    pod = release.node.pod("Pod", "flyteplane-test")
    assert "registered, launched and read back" in await release.kubelet.complete(pod)


def _namespaces(server: RealApiServer) -> list[str]:
    found = server.request("GET", "/api/v1/namespaces")["items"]
    return [each["metadata"]["name"] for each in found if each["metadata"]["name"] == "flytesnacks-development"]


def _workflows(server: RealApiServer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.request("GET", WORKFLOWS)["items"]
    return found


def _install(server: RealApiServer, manifests: Manifests) -> None:
    """Install the definition, service accounts and their permissions of a release in its own cluster."""
    paths = {
        "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        "ServiceAccount": f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts",
        "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    }
    for kind, path in paths.items():
        for each in manifests.of(kind):
            server.request("POST", path, each)
    server.wait_for("/apis/flyte.lyft.com/v1alpha1/flyteworkflows")


def _token(server: RealApiServer, account: str) -> str:
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token: str = server.request("POST", path, request)["status"]["token"]
    return token


def _secret(name: str, content: Any) -> KubernetesObject:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": dict(content)}
