"""What an API server does not accept, or not yet: size, quota, namespace, credentials."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from flyteidl.core.execution_pb2 import ExecutionError

from services.kit.errors import Unauthenticated
from services.kit.kubernetes.access import from_files
from services.kit.kubernetes.client import KubernetesClient
from services.kit.kubernetes.resource_types import ResourceType
from tests.support.control_planes import ControlPlane, control_plane
from tests.support.flyte_workflows import create_namespace, created, eventually, found
from tests.support.parts import Parts
from tests.support.real_api_servers import RealApiServer

NAMESPACE = "refusals"
SERVICE_ACCOUNTS = ResourceType("", "v1", "serviceaccounts", "ServiceAccount")
SECRETS = ResourceType("", "v1", "secrets", "Secret")
# The API server keeps the result of checking a token for ten seconds.
TOKEN_SECONDS = 40.0
UNLIMITED = 64 * 1024 * 1024


@pytest.fixture
async def client(api_server: RealApiServer) -> AsyncIterator[KubernetesClient]:
    opened = api_server.client()
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
async def refusals(api_server: RealApiServer) -> str:
    opened = api_server.client()
    await create_namespace(opened, NAMESPACE)
    await opened.close()
    return NAMESPACE


@pytest.mark.parametrize("padding", [2 * 1024 * 1024, 3 * 1024 * 1024 + 100_000])
async def test_resource_that_the_server_finds_too_large_is_offloaded(
    padding: int, parts: Parts, api_server: RealApiServer, client: KubernetesClient, refusals: str
) -> None:
    """The first one is too large for etcd, the second for the API server."""
    name = f"large-{padding}"
    async with control_plane(
        parts, f"large_{padding}", [api_server.settings], refusals, resource_max_bytes=UNLIMITED
    ) as plane:
        await plane.register("large", padding=padding)
        await plane.launch(name, of="large")
        resource = await created(client, refusals, name)
        assert resource["spec"] is None
        assert "inputs" not in resource
        assert resource["workflowClosureReference"].startswith("file:///")
        assert resource["offloadedInputs"].startswith("file:///")
        assert await plane.phase(name) == "UNDEFINED"


async def test_large_workflow_is_offloaded_and_its_inputs_stay(
    parts: Parts, api_server: RealApiServer, client: KubernetesClient, refusals: str
) -> None:
    async with control_plane(parts, "half_large", [api_server.settings], refusals) as plane:
        await plane.register("half-large", padding=600 * 1024)
        await plane.launch("half-large", of="half-large")
        resource = await created(client, refusals, "half-large")
    assert resource["spec"] is None
    assert resource["inputs"]["literals"].keys() == {"a"}
    assert "offloadedInputs" not in resource


async def test_quota_fails_the_execution_with_the_words_of_the_server(
    parts: Parts, api_server: RealApiServer, client: KubernetesClient
) -> None:
    await create_namespace(client, "limited")
    counted = {"count/flyteworkflows.flyte.lyft.com": "0"}
    quota: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few", "namespace": "limited"},
        "spec": {"hard": counted},
    }
    await asyncio.to_thread(api_server.install, quota)
    # What the quota controller does.
    path = "/api/v1/namespaces/limited/resourcequotas/few/status"
    await asyncio.to_thread(api_server.request, "PATCH", path, {"status": {"hard": counted, "used": counted}})
    async with control_plane(parts, "limited", [api_server.settings], "limited") as plane:
        await plane.launch("one-too-many")
        assert await eventually(lambda: failed(plane, "one-too-many"))
        error = (await plane.get("one-too-many")).closure.error
    assert (error.code, error.kind) == ("PermissionDenied", ExecutionError.SYSTEM)
    assert error.message.startswith("failed to create workflow in propeller: ")
    assert "exceeded quota: few" in error.message


async def failed(plane: ControlPlane, name: str) -> bool:
    return await plane.phase(name) == "FAILED"


async def test_execution_waits_for_its_namespace(
    parts: Parts, api_server: RealApiServer, client: KubernetesClient
) -> None:
    async with control_plane(parts, "later", [api_server.settings], "later") as plane:
        await plane.launch("early")
        await asyncio.sleep(1.5)  # two tries
        assert await plane.phase("early") == "UNDEFINED"
        await create_namespace(client, "later")
        await created(client, "later", "early")
        assert await plane.phase("early") == "UNDEFINED"


async def test_execution_whose_namespace_never_comes_fails(parts: Parts, api_server: RealApiServer) -> None:
    async with control_plane(parts, "never", [api_server.settings], "never", engine_patience_seconds=1) as plane:
        await plane.launch("lonely")
        assert await eventually(lambda: failed(plane, "lonely"))
        error = (await plane.get("lonely")).closure.error
    assert error.code == "Unavailable"
    assert error.message.endswith('namespaces "never" not found')


async def test_execution_waits_for_a_new_token(
    parts: Parts, api_server: RealApiServer, client: KubernetesClient, tmp_path: Path
) -> None:
    """The token is one of a service account that may do no more than the engine needs."""
    await create_namespace(client, "tokens")
    await asyncio.to_thread(api_server.install, *least_permissions())
    token_file = tmp_path / "token"
    token_file.write_text(await token(api_server, client, "first"))
    settings = {**api_server.settings, "token_file": str(token_file)}
    async with control_plane(parts, "tokens", [settings], "tokens") as plane:
        await plane.launch("with-first")
        await created(client, "tokens", "with-first")
        await client.delete(SECRETS, "tokens", "first")  # the token is bound to it
        await eventually(lambda: refused(api_server, token_file), TOKEN_SECONDS)
        await plane.launch("in-between")
        await asyncio.sleep(1.5)  # two tries
        assert await plane.phase("in-between") == "UNDEFINED"
        token_file.write_text(await token(api_server, client, "second"))
        await created(client, "tokens", "in-between")
        assert await plane.phase("in-between") == "UNDEFINED"
        await plane.terminate("in-between")
        await eventually(lambda: deleted(client, "in-between"))


async def deleted(client: KubernetesClient, name: str) -> bool:
    resource = await found(client, "tokens", name)
    return resource is None or "deletionTimestamp" in resource["metadata"]


async def refused(api_server: RealApiServer, token_file: Path) -> bool:
    probe = KubernetesClient.open(lambda: from_files(api_server.url, authorities=api_server.ca_file, token=token_file))
    try:
        await probe.names(ResourceType("", "v1", "configmaps", "ConfigMap"), "tokens")
    except Unauthenticated:
        return True
    except Exception:  # noqa: BLE001  # it may not list these, but is known
        return False
    finally:
        await probe.close()
    return False


async def token(api_server: RealApiServer, client: KubernetesClient, secret: str) -> str:
    """Return a token that is valid as long as a secret exists, which is created."""
    content = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}}
    await client.create(SECRETS, "tokens", content)
    uid = (await client.get(SECRETS, "tokens", secret))["metadata"]["uid"]
    bound = {"apiVersion": "v1", "kind": "Secret", "name": secret, "uid": uid}
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"boundObjectRef": bound, "expirationSeconds": 3600},
    }
    path = SERVICE_ACCOUNTS.path("tokens", "submitter") + "/token"
    response = await asyncio.to_thread(api_server.request, "POST", path, request)
    return str(response["status"]["token"])


def least_permissions() -> list[dict[str, Any]]:
    """Return a service account, and what it may do: the verbs that the engine needs."""
    rules = [
        {"apiGroups": ["flyte.lyft.com"], "resources": ["flyteworkflows"], "verbs": ["create", "delete", "get", "list"]}
    ]
    subject = {"kind": "ServiceAccount", "name": "submitter", "namespace": "tokens"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "submitter"}
    rbac = "rbac.authorization.k8s.io/v1"
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "submitter", "namespace": "tokens"},
        },
        {"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": "submitter"}, "rules": rules},
        {
            "apiVersion": rbac,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "submitter"},
            "roleRef": role,
            "subjects": [subject],
        },
    ]


async def test_forbidden_execution_fails_with_the_words_of_the_server(
    parts: Parts, api_server: RealApiServer, client: KubernetesClient, tmp_path: Path
) -> None:
    await create_namespace(client, "forbidden")
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "stranger"}}
    await client.create(SERVICE_ACCOUNTS, "forbidden", account)
    path = SERVICE_ACCOUNTS.path("forbidden", "stranger") + "/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    response = await asyncio.to_thread(api_server.request, "POST", path, request)
    (tmp_path / "token").write_text(response["status"]["token"])
    settings = {**api_server.settings, "token_file": str(tmp_path / "token")}
    async with control_plane(parts, "forbidden", [settings], "forbidden") as plane:
        await plane.launch("not-allowed")
        assert await eventually(lambda: failed(plane, "not-allowed"))
        error = (await plane.get("not-allowed")).closure.error
    assert 'User "system:serviceaccount:forbidden:stranger" cannot create resource "flyteworkflows"' in error.message
