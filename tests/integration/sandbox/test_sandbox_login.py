"""A sandbox with login: flytekit, the engine and the release's test have tokens, and nothing else gets in."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from deploy.sandbox.layout import SERVICES
from tests.support import chromium, clients
from tests.support.browsers import Browser
from tests.support.oidc.provider import AUDIENCE, Provider, running_provider
from tests.support.parts import free_port
from tests.support.refusals import refused
from tests.support.sandbox import ROOT, Sandbox, running_sandbox
from tests.support.waiting import until

FLOWS = ROOT / "tests" / "clients" / "engine_flows"
PROGRAM, SECRET = "propeller", "propeller-secret"
TEST_SECONDS = 60

SETTINGS = """\
auth_issuer = "{issuer}"
authorization_policy = "{policy}"
audit_log = true

[gateway]
auth_audiences = ["{audience}", "console"]
auth_jwks_url = "{keys_url}"

[projects]
auth_client_id = "flytekit"
auth_client_scopes = ["openid", "all"]
auth_client_redirect_uri = "{redirect_uri}"
login_client_id = "console"
login_client_secret = "console-secret"
"""

POLICY = f"""\
bindings:
  - {{role: engine, claims: {{iss: [flyteplane-engine]}}, projects: ["*"]}}
  - {{role: contributor, clients: [{PROGRAM}], projects: [flytesnacks]}}
  - {{role: contributor, subjects: [ben, cleo, dora], projects: [flytesnacks]}}
  - {{role: viewer, subjects: [ann, eve], projects: [flytesnacks]}}
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with running_provider() as running:
        yield running


@pytest.fixture(scope="module")
def sandbox(provider: Provider) -> Iterator[Sandbox]:
    """Run a sandbox whose file of settings switches login on."""
    with TemporaryDirectory(prefix="fp-login-", ignore_cleanup_errors=True) as base:
        folder = Path(base) / "sandbox"
        folder.mkdir()
        policy = Path(base) / "policy.yaml"
        policy.write_text(POLICY)
        redirect_uri = f"http://localhost:{free_port()}/callback"
        provider.clients["flytekit"].redirect_uris = [redirect_uri]
        text = SETTINGS.format(
            issuer=provider.issuer,
            audience=AUDIENCE,
            keys_url=provider.keys_url,
            redirect_uri=redirect_uri,
            policy=policy,
        )
        (folder / "settings.toml").write_text(text)
        with running_sandbox(folder, engine="local", task_python=clients.CLIENTS / "python") as running:
            provider.clients["console"].redirect_uris = [f"{running.url}/callback"]
            provider.clients["console"].post_logout_uris = [f"{running.url}/logout"]
            yield running


def client_config(sandbox: Sandbox, secret: str) -> Path:
    """Return a file of configuration for a program with a secret."""
    (sandbox.folder / "client_secret").write_text(secret)
    lines = (
        f"endpoint: dns:///{sandbox.target}",
        "insecure: true",
        "authType: ClientSecret",
        f"clientId: {PROGRAM}",
        f"clientSecretLocation: {sandbox.folder / 'client_secret'}",
    )
    file = sandbox.folder / "program.yaml"
    file.write_text("admin:\n" + "".join(f"  {line}\n" for line in lines))
    return file


def environment(sandbox: Sandbox, service: str) -> dict[str, str]:
    """Return the variables of a service of the sandbox."""
    lines = (sandbox.folder / "env" / f"{service}.env").read_text().splitlines()
    return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines) if name}


def audited(sandbox: Sandbox, service: str, *options: str) -> list[Any]:
    """Return records of a service's audit log."""
    command = (sys.executable, "-m", f"services.{service}", "audit", "--json", *options)
    variables = os.environ | environment(sandbox, service)
    done = subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=TEST_SECONDS, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


async def get(sandbox: Sandbox, provider: Provider, path: str, **query: str) -> Any:
    """Return what a person reads over REST."""
    headers = {"authorization": f"Bearer {provider.token('ann')}", "accept": "application/json"}
    async with httpx.AsyncClient(base_url=sandbox.url, headers=headers) as client:
        reply = await client.get(path, params=query)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_flytekit_logs_in_by_client_credentials_and_is_the_principal(
    sandbox: Sandbox, provider: Provider
) -> None:
    command = ("pyflyte", "run", "--remote", "--wait", "--poll-interval", "1", "basics.py", "chain", "--n", "5")
    done = await clients.run(sandbox, FLOWS, *command, config=client_config(sandbox, SECRET))
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"/executions/(\w+)", done.stdout)
    assert found is not None
    execution = await get(sandbox, provider, f"/api/v1/executions/flytesnacks/development/{found[1]}")
    assert execution["closure"]["phase"] == "SUCCEEDED"  # so the engine's events were accepted
    assert execution["spec"]["metadata"]["principal"] == PROGRAM
    assert execution["spec"]["security_context"]["run_as"]["execution_identity"] == PROGRAM
    assert execution["closure"]["state_change_details"]["principal"] == PROGRAM
    for user, names in ((PROGRAM, [found[1]]), ("ann", [])):
        listed = await get(
            sandbox, provider, "/api/v1/executions/flytesnacks/development", limit="9", filters=f"eq(user,{user})"
        )
        assert [each["id"]["name"] for each in listed["executions"]] == names


async def test_child_that_the_engine_launches_has_the_principal_of_its_parent(
    sandbox: Sandbox, provider: Provider
) -> None:
    command = ("pyflyte", "run", "--remote", "--wait", "--poll-interval", "1", "shapes.py", "nested")
    done = await clients.run(sandbox, FLOWS, *command, config=client_config(sandbox, SECRET))
    assert done.returncode == 0, done.stdout + done.stderr
    query = {"limit": "9", "filters": "eq(launch_plan.name,shapes.inner_plan)"}
    listed = await get(sandbox, provider, "/api/v1/executions/flytesnacks/development", **query)
    (child,) = listed["executions"]
    assert child["closure"]["phase"] == "SUCCEEDED"
    assert child["spec"]["metadata"]["principal"] == PROGRAM
    assert child["spec"]["metadata"]["parent_node_execution"]["execution_id"]["name"]


async def test_denied_call_is_in_the_audit_log(sandbox: Sandbox, provider: Provider) -> None:
    headers = {"authorization": f"Bearer {provider.token('ann')}", "accept": "application/json"}
    async with httpx.AsyncClient(base_url=sandbox.url, headers=headers) as client:
        denied = await client.put("/api/v1/projects/flytesnacks", json={"name": "mine"})
    assert denied.status_code == 403
    assert '"ann" (client "flytekit") needs the role admin' in denied.json()["message"]
    expected = {"method": "UpdateProject", "resource": "flytesnacks", "code": "PERMISSION_DENIED"}
    (record,) = audited(sandbox, "projects", "--subject", "ann")
    assert record.items() >= {**expected, "address": "127.0.0.1", "client": "flytekit"}.items()


async def test_flytekit_with_a_wrong_secret_does_not_get_in(sandbox: Sandbox) -> None:
    command = ("pyflyte", "run", "--remote", "basics.py", "chain", "--n", "5")
    done = await clients.run(sandbox, FLOWS, *command, config=client_config(sandbox, "wrong"))
    assert done.returncode != 0
    assert "/executions/" not in done.stdout


async def test_without_a_token_only_the_way_to_one_is_open(sandbox: Sandbox, provider: Provider) -> None:
    async with httpx.AsyncClient(base_url=sandbox.url, headers={"accept": "application/json"}) as client:
        for path in ("/api/v1/projects", "/me", "/api/v1/executions/flytesnacks/development?limit=1"):
            assert (await client.get(path)).status_code == 401
        metadata = (await client.get("/.well-known/oauth-authorization-server")).json()
        public_client = (await client.get("/config/v1/flyte_client")).json()
        discovery = await client.get("/.well-known/openid-configuration")
    assert metadata["issuer"] == provider.issuer
    assert metadata["token_endpoint"] == provider.metadata()["token_endpoint"]
    assert metadata["device_authorization_endpoint"] == provider.metadata()["device_authorization_endpoint"]
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert public_client == {
        "client_id": "flytekit",
        "redirect_uri": next(iter(provider.clients["flytekit"].redirect_uris)),
        "scopes": ["openid", "all"],
        "authorization_metadata_key": "flyte-authorization",
        "service_http_endpoint": "",
        "audience": "",
    }
    assert discovery.headers["location"] == f"{provider.issuer}/.well-known/openid-configuration"


async def test_me_is_the_caller(sandbox: Sandbox, provider: Provider) -> None:
    me = await get(sandbox, provider, "/me")
    assert me["subject"] == "ann"
    assert me["additional_claims"]["iss"] == provider.issuer


@pytest.mark.parametrize("name", SERVICES)
async def test_each_service_serves_the_gateway_alone(sandbox: Sandbox, name: str) -> None:
    claimed = (("x-flyteplane-claims", "eyJzdWIiOiJyb290In0"), ("x-flyteplane-gateway", "0123456789abcdef"))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{sandbox.ports[f'{name}-grpc']}") as channel:
        for metadata in ((), claimed):
            for path in ("/flyteidl.service.AdminService/GetVersion", "/flyteidl.service.AdminService/GetExecution"):
                call = channel.unary_unary(path, bytes, bytes)(b"", metadata=metadata)
                await refused(call, grpc.StatusCode.UNAUTHENTICATED, "only the gateway may call this port")
        check = health_pb2_grpc.HealthStub(channel).Check
        assert (await check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_needs_a_token(sandbox: Sandbox, provider: Provider) -> None:
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    async with sandbox.channel() as channel:
        reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        token = (("authorization", f"Bearer {provider.token()}"),)
        (reply,) = [reply async for reply in reflect(iter([question]), metadata=token)]
        assert "flyteidl.service.AdminService" in [each.name for each in reply.list_services_response.service]
        # As a unary call: grpcio's client reports INTERNAL for a stream that ends before it has sent its request.
        unary = channel.unary_unary("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", bytes, bytes)
        await refused(unary(b""), grpc.StatusCode.UNAUTHENTICATED)


def test_the_releases_test_logs_in_and_the_engine_ends_its_execution(sandbox: Sandbox) -> None:
    command = (sys.executable, "-m", "deploy.release_test", sandbox.target, "--wait=30", f"--client-id={PROGRAM}")
    for secret, succeeds in ((SECRET, True), ("wrong", False)):
        environment = {**os.environ, "CLIENT_SECRET": secret}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TEST_SECONDS, check=False
        )
        assert (done.returncode == 0) is succeeds, done.stdout + done.stderr
        assert ("succeeded" in done.stdout) is succeeds
        assert succeeds or f"no token for {PROGRAM}: 401" in done.stderr


def person_config(sandbox: Sandbox, how: str) -> Path:
    file = sandbox.folder / f"{how}.yaml"
    file.write_text(f"admin:\n  endpoint: dns:///{sandbox.target}\n  insecure: true\n  authType: {how}\n")
    return file


async def launch(sandbox: Sandbox, config: Path) -> str:
    """Launch an execution by pyflyte; return its name."""
    command = ("pyflyte", "run", "--remote", "basics.py", "chain", "--n", "5")
    done = await clients.run(sandbox, FLOWS, *command, config=config)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"/executions/(\w+)", done.stdout)
    assert found is not None
    return found[1]


async def principal_of(sandbox: Sandbox, provider: Provider, name: str) -> str:
    execution = await get(sandbox, provider, f"/api/v1/executions/flytesnacks/development/{name}")
    principal: str = execution["spec"]["metadata"]["principal"]
    return principal


async def test_flytekit_logs_in_by_a_browser(
    sandbox: Sandbox, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROWSER", f"{sys.executable} {ROOT}/tests/support/browsers.py ben %s &")
    name = await launch(sandbox, person_config(sandbox, "Pkce"))
    assert await principal_of(sandbox, provider, name) == "ben"


@chromium.needed
async def test_flytekit_logs_in_by_chromium(
    sandbox: Sandbox, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "auto_approve", "cleo")
    monkeypatch.setenv("BROWSER", f"{shlex.join(chromium.command(sandbox.folder / 'profile'))} %s &")
    name = await launch(sandbox, person_config(sandbox, "Pkce"))
    assert await principal_of(sandbox, provider, name) == "cleo"


async def test_flytekit_logs_in_by_a_device_code(sandbox: Sandbox, provider: Provider) -> None:
    async def approve() -> None:
        await until(lambda: bool(provider.issued.device_codes), 60)
        (code,) = provider.issued.device_codes.values()
        async with Browser("dora") as browser:
            assert "logged in" in (await browser.open(f"{provider.issuer}/device?user_code={code.user_code}")).text

    provider.issued.device_codes.clear()
    name, _ = await asyncio.gather(launch(sandbox, person_config(sandbox, "DeviceFlow")), approve())
    assert await principal_of(sandbox, provider, name) == "dora"


async def test_a_browser_logs_in_sees_who_it_is_and_logs_out(sandbox: Sandbox) -> None:
    async with Browser("eve") as browser:
        assert (await browser.step(f"{sandbox.url}/me")).status_code == 401
        assert (await browser.open(f"{sandbox.url}/login")).json()["subject"] == "eve"
        projects = await browser.open(f"{sandbox.url}/login?redirect_url=/api/v1/projects")
        assert projects.json()["projects"]
        assert "Your session has ended" in (await browser.open(f"{sandbox.url}/logout")).text
        assert (await browser.step(f"{sandbox.url}/me")).status_code == 401


@chromium.needed
async def test_chromium_logs_in_sees_who_it_is_and_logs_out(
    sandbox: Sandbox, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "auto_approve", "fay")
    profile = sandbox.folder / "fay"
    assert '"subject":"fay"' in (await chromium.page(profile, f"{sandbox.url}/login")).replace(" ", "")
    assert '"subject":"fay"' in (await chromium.page(profile, f"{sandbox.url}/me")).replace(" ", "")
    assert "Your session has ended" in await chromium.page(profile, f"{sandbox.url}/logout")
    assert '"code":16' in (await chromium.page(profile, f"{sandbox.url}/me")).replace(" ", "")
