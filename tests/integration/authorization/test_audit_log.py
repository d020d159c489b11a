"""The audit log of running services: the table, announcements, the command, retention, and a database that is away."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from flyteidl.admin.project_pb2 import Project, ProjectGetRequest, ProjectListRequest, ProjectRegisterRequest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.kit.audit.command import audit_command
from services.kit.audit.log import AuditLog, subject_of
from services.kit.audit.store import AuditRecord, delete_before, records_since
from services.kit.audit.trail import ADDRESS_HEADER
from services.kit.db.database import Database
from services.kit.messaging.bus import Bus
from tests.support.authorization import binding, policy_text
from tests.support.callers import SECRET, sent_by_gateway
from tests.support.parts import Parts, Served, service
from tests.support.refusals import code_of
from tests.support.waiting import until

EARLIEST = datetime(1, 1, 1, tzinfo=UTC)
RPC = "RegisterProject"


@pytest.fixture(scope="module")
async def served(parts: Parts) -> AsyncIterator[Served]:
    policy = parts.folder / "audit-roles.yaml"
    policy.write_text(policy_text(binding("admin", ("*", "*"), subjects=["root"])))
    settings: dict[str, Any] = {"authorization_policy": policy, "gateway_secret": SECRET, "audit_log": True}
    async with service("projects", parts, "audit_projects", **settings) as running:
        yield running


@pytest.fixture
async def db(served: Served) -> AsyncIterator[Database]:
    opened = await Database.open(served.settings.database_url, max_size=2)
    yield opened
    await opened.close()


@pytest.fixture
def admin(served: Served) -> AdminServiceStub:
    return AdminServiceStub(served.channel)


def headers(subject: str) -> tuple[tuple[str, str], ...]:
    address = (ADDRESS_HEADER, "203.0.113.7")
    return (*sent_by_gateway(sub=subject, azp="flytectl").items(), address)


async def register(admin: AdminServiceStub, name: str, subject: str = "root") -> grpc.StatusCode:
    request = ProjectRegisterRequest(project=Project(id=name, name=name))
    return await code_of(admin.RegisterProject(request, metadata=headers(subject)))


async def recorded(db: Database, subject: str | None = None, method: str | None = None) -> list[AuditRecord]:
    return [record async for record in records_since(db, EARLIEST, subject, method)]


async def test_changes_and_denials_are_recorded_before_their_response_and_reads_are_not(
    admin: AdminServiceStub, db: Database
) -> None:
    before = datetime.now(UTC)
    assert await register(admin, "audited") is grpc.StatusCode.OK
    assert await register(admin, "audited") is grpc.StatusCode.ALREADY_EXISTS
    assert await register(admin, "denied", "eve") is grpc.StatusCode.PERMISSION_DENIED
    read = admin.GetProject(ProjectGetRequest(id="audited"), metadata=headers("mallory"))
    assert await code_of(read) is grpc.StatusCode.PERMISSION_DENIED
    await admin.ListProjects(ProjectListRequest(), metadata=headers("root"))

    found = [record for record in await recorded(db) if record.at >= before]
    assert [(each.subject, each.method, each.resource, each.code) for each in found] == [
        ("root", RPC, "audited", "OK"),
        ("root", RPC, "audited", "ALREADY_EXISTS"),
        ("eve", RPC, "denied", "PERMISSION_DENIED"),
        ("mallory", "GetProject", "audited", "PERMISSION_DENIED"),
    ]
    assert {(each.client, each.address) for each in found} == {("flytectl", "203.0.113.7")}
    assert found[0].message == ""
    assert '"eve" (client "flytectl") needs the role admin' in found[2].message


async def test_records_are_announced(admin: AdminServiceStub, bus: Bus) -> None:
    announced: list[dict[str, Any]] = []

    async def receive(payload: bytes) -> None:
        announced.append(json.loads(payload))

    await bus.subscribe(subject_of("projects"), receive)
    await bus.check()  # after it the subscription is at the server
    await register(admin, "announced")
    await until(lambda: bool(announced))
    assert announced[0].items() >= {"subject": "root", "method": RPC, "resource": "announced", "code": "OK"}.items()
    assert datetime.fromisoformat(announced[0]["at"]).tzinfo is not None


async def test_command_shows_records_by_subject_method_and_time(
    admin: AdminServiceStub, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    await register(admin, "shown", "ann\x1b[31m")
    await register(admin, "shown", "ann")
    run = audit_command("projects").run
    assert await run(served.settings, ["--subject", "ann", "--method", RPC, "--since", "1h", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line).items() >= {"subject": "ann", "resource": "shown", "code": "PERMISSION_DENIED"}.items()
    assert await run(served.settings, []) == 0
    table = capsys.readouterr().out
    assert table.startswith("AT")
    assert "\x1b" not in table
    assert await run(served.settings, ["--subject", "nobody"]) == 1


async def test_old_records_are_deleted(admin: AdminServiceStub, served: Served, db: Database) -> None:
    await register(admin, "old")
    async with await psycopg.AsyncConnection.connect(served.settings.database_url, autocommit=True) as connection:
        await connection.execute("UPDATE audit_log SET at = at - interval '10 days' WHERE resource = 'old'")
    await register(admin, "new")
    assert await delete_before(db, datetime.now(UTC) - timedelta(days=9)) == 1
    resources = {record.resource for record in await recorded(db)}
    assert "old" not in resources
    assert "new" in resources


def record(resource: str) -> AuditRecord:
    return AuditRecord(datetime.now(UTC), RPC, "root", "", resource, "", "OK", "")


async def test_records_wait_for_a_database_that_takes_none_and_calls_wait_a_bounded_time(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    url = await asyncio.to_thread(parts.migrated_database, "projects", "audit_outage")
    db = await Database.open(url, max_size=2)
    announced: list[bytes] = []

    async def announce(payload: bytes) -> None:
        announced.append(payload)

    log = AuditLog(db, announce, 0)
    running = asyncio.create_task(log.run())
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("ALTER TABLE audit_log RENAME TO away")
        await asyncio.gather(*(log.put(record(f"waits{number}")) for number in range(3)))
        assert "audit records wait" in caplog.text
        assert announced == []
        await connection.execute("ALTER TABLE away RENAME TO audit_log")
    await log.put(record("later"))
    assert [each.resource for each in await recorded(db)] == ["waits0", "waits1", "waits2", "later"]
    assert len(announced) == 4
    running.cancel()
    await asyncio.wait([running])
    await db.close()


async def test_records_that_cannot_be_stored_are_in_the_log_of_the_process(
    parts: Parts, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.kit.audit.log._CALL_SECONDS", 0.01)
    monkeypatch.setattr("services.kit.audit.log._FLUSH_SECONDS", 0.01)
    url = await asyncio.to_thread(parts.migrated_database, "projects", "audit_lost")
    db = await Database.open(url, max_size=1)

    async def announce(_: bytes) -> None:
        """Announce nothing."""

    log = AuditLog(db, announce, 0)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("DROP TABLE audit_log")
    await log.put(record("lost"))
    await log.flush()
    (line,) = [each for each in caplog.records if each.message == "an audit record is not stored"]
    assert line.record["resource"] == "lost"  # type: ignore[attr-defined]
    await db.close()


async def test_refused_events_are_recorded_and_others_are_not(parts: Parts, tmp_path: Path) -> None:
    policy = tmp_path / "roles.yaml"
    policy.write_text(policy_text(binding("engine", ("*", "*"), subjects=["propeller"])))
    settings: dict[str, Any] = {"authorization_policy": policy, "gateway_secret": SECRET, "audit_log": True}
    settings["objects_url"] = f"file://{tmp_path / 'objects'}"
    async with service("events", parts, "audit_events", **settings) as running:
        call = running.channel.unary_unary("/flyteidl.service.AdminService/CreateNodeEvent", bytes, bytes)
        assert await code_of(call(b"", metadata=headers("ann"))) is grpc.StatusCode.PERMISSION_DENIED
        assert await code_of(call(b"", metadata=headers("propeller"))) is grpc.StatusCode.INVALID_ARGUMENT
        db = await Database.open(running.settings.database_url, max_size=1)
        assert [(each.subject, each.method) for each in await recorded(db)] == [("ann", "CreateNodeEvent")]
        await db.close()
