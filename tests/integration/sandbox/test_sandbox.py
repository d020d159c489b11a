"""The local stack with its real parts: it serves, stores data, separates services, survives kills, leaves nothing."""

import json
import os
import re
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import psutil
import psycopg
import pytest
from flyteidl.admin.project_pb2 import GetDomainRequest, Project, ProjectListRequest, ProjectRegisterRequest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from flyteidl.service.dataproxy_pb2 import CreateUploadLocationRequest
from flyteidl.service.dataproxy_pb2_grpc import DataProxyServiceStub

from tests.support.sandbox import ROOT, Sandbox, running_sandbox
from tests.support.waiting import until

SERVICES = ("registry", "executions", "events", "projects")
# Loading a service takes one to two seconds; test machines are busy.
COMES_BACK_SECONDS = 30.0
MEMORY_TARGET_MB = 700


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """One sandbox for the module; each test leaves it running and healthy."""
    with (
        TemporaryDirectory(prefix="fp-sandbox-", ignore_cleanup_errors=True) as folder,
        running_sandbox(Path(folder) / "sandbox") as running,
    ):
        yield running


def state(sandbox: Sandbox) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((sandbox.folder / "state.json").read_text())
    return parsed


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def everything_of(sandbox: Sandbox) -> list[int]:
    supervisor = psutil.Process(state(sandbox)["supervisor"])
    return [supervisor.pid, *(child.pid for child in supervisor.children(recursive=True))]


def database_url(sandbox: Sandbox, role: str, database: str, *, password: str | None = None) -> str:
    secrets = json.loads((sandbox.folder / "secrets.json").read_text())
    host = quote(str(sandbox.folder / "postgres"), safe="")
    return f"postgresql://{role}:{password or secrets['passwords'][role]}@/{database}?host={host}"


async def projects(sandbox: Sandbox) -> set[str]:
    async with sandbox.channel() as channel:
        listed = await AdminServiceStub(channel).ListProjects(ProjectListRequest(limit=100), wait_for_ready=True)
        return {project.id for project in listed.projects}


async def test_gateway_returns_the_seeded_project(sandbox: Sandbox) -> None:
    assert "flytesnacks" in await projects(sandbox)


def test_status_is_healthy_and_within_the_memory_target(sandbox: Sandbox) -> None:
    status = sandbox.run("status")
    assert status.returncode == 0, status.stdout
    memory = re.search(r"memory of all \(PSS\): (\d+) MB", status.stdout)
    assert memory is not None
    assert int(memory[1]) < MEMORY_TARGET_MB
    assert re.search(r"CPU of all over the last minute: \d+\.\d{3} cores", status.stdout)


@pytest.mark.parametrize("role", SERVICES)
def test_role_may_connect_to_its_own_database_only(sandbox: Sandbox, role: str) -> None:
    with psycopg.connect(database_url(sandbox, role, role)) as connection:
        row = connection.execute("SELECT current_user, current_setting('is_superuser')").fetchone()
        assert row == (role, "off")
    for other in {*SERVICES, "postgres", "template1"} - {role}:
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(database_url(sandbox, role, other))


def test_role_needs_its_password(sandbox: Sandbox) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(database_url(sandbox, "registry", "registry", password="guess"))


def test_databases_are_durable(sandbox: Sandbox) -> None:
    with psycopg.connect(database_url(sandbox, "events", "events")) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute(f"SHOW {setting}").fetchone() == ("on",)


def test_secrets_are_for_their_owner_only(sandbox: Sandbox) -> None:
    assert stat.S_IMODE((sandbox.folder / "secrets.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(sandbox.folder.stat().st_mode) == 0o700


async def test_data_survives_down_and_up(sandbox: Sandbox) -> None:
    async with sandbox.channel() as channel:
        request = ProjectRegisterRequest(project=Project(id="kept", name="kept"))
        await AdminServiceStub(channel).RegisterProject(request, wait_for_ready=True)
    assert sandbox.run("down").returncode == 0
    assert sandbox.run("up").returncode == 0
    assert "kept" in await projects(sandbox)


async def test_killed_supervisor_leaves_no_process_and_no_damage(sandbox: Sandbox) -> None:
    everything = everything_of(sandbox)
    assert len(everything) > len(SERVICES) + 4  # PostgreSQL has processes of its own
    os.kill(everything[0], signal.SIGKILL)
    await until(lambda: not any(map(lives, everything)), COMES_BACK_SECONDS)
    up = sandbox.run("up")
    assert up.returncode == 0, up.stdout + up.stderr
    assert "flytesnacks" in await projects(sandbox)


async def test_everything_killed_at_once_starts_again(sandbox: Sandbox) -> None:
    # As when the machine is switched off: PostgreSQL's pid file stays behind.
    supervisor, *others = everything = everything_of(sandbox)
    os.kill(supervisor, signal.SIGSTOP)  # it must neither restart parts nor, by dying first, stop them
    for pid in (*others, supervisor):
        os.kill(pid, signal.SIGKILL)
    await until(lambda: not any(map(lives, everything)), COMES_BACK_SECONDS)
    assert (sandbox.folder / "postgres" / "data" / "postmaster.pid").exists()
    up = sandbox.run("up")
    assert up.returncode == 0, up.stdout + up.stderr
    assert "flytesnacks" in await projects(sandbox)


def test_down_leaves_no_process(sandbox: Sandbox) -> None:
    everything = everything_of(sandbox)
    assert sandbox.run("down").returncode == 0
    assert not any(map(lives, everything))
    assert not (sandbox.folder / "postgres" / "data" / "postmaster.pid").exists()
    assert sandbox.run("up").returncode == 0


@pytest.mark.long
async def test_sandbox_in_a_deep_folder_works_by_the_settings_of_the_readme(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    folder = tmp_path / ("deep" * 30) / "sandbox"  # PostgreSQL's socket is in another folder
    folder.mkdir(parents=True)
    (folder / "settings.toml").write_text(example)
    with running_sandbox(folder) as deep:
        assert "flytesnacks" in await projects(deep)
        async with deep.channel() as channel:
            admin = AdminServiceStub(channel)
            domains = (await admin.GetDomains(GetDomainRequest())).domains
            assert [(domain.id, domain.name) for domain in domains][1] == ("staging", "Staging area")
            upload = CreateUploadLocationRequest(project="flytesnacks", domain="staging", filename_root="root")
            location = await DataProxyServiceStub(channel).CreateUploadLocation(upload)
        assert location.native_url.startswith("s3://my-bucket/flyte/uploads/")
        assert "X-Amz-Credential=...%2F" in location.signed_url
        assert "eu-central-1" in location.signed_url
        assert "AWS_SECRET_ACCESS_KEY" not in psutil.Process(deep.pid("projects")).environ()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert deep.run("reset").returncode == 0
        assert not deep.folder.exists()
