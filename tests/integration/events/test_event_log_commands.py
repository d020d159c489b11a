"""`python -m services.events log`, `refused` and `replay`, as an operator runs them."""

import json
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import psycopg
import pytest
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.event.event_pb2 import DynamicWorkflowNodeMetadata, TaskNodeMetadata
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.executions.rules.events.batch import Event
from tests.support.event_log import Ran, command
from tests.support.event_makers import node_event, task_event, workflow_event
from tests.support.event_path import Executions, send
from tests.support.parts import Parts, Served, free_port, running_nats, service
from tests.support.waiting import until

SOON_SECONDS = 20.0


@dataclass
class Stack:
    """The event path, with a replica of executions."""

    executions: Executions
    events: Served
    admin: AdminServiceStub

    async def run(self, *arguments: str) -> Ran:
        """Run a command with the settings of the running service."""
        settings = self.events.settings
        urls = {name: getattr(settings, name) for name in ("database_url", "nats_url", "objects_url")}
        return await command(*arguments, **urls)

    async def logged(self, count: int, name: str) -> list[dict[str, Any]]:
        """Return the log of the execution `name`, once it has `count` events whose verdicts are known."""
        lines: list[dict[str, Any]] = []
        for _ in range(20):
            result = await self.run("log", f"p/d/{name}", "--json")
            lines = [json.loads(line) for line in result.out.splitlines()]
            if len(lines) == count and all(line["verdict"] != "waiting" for line in lines):
                return lines
        raise TimeoutError(f"{len(lines)} events are in the log")

    def refused_id(self, name: str) -> int | None:
        """Return the id of the refused event of the execution `name`; None while there is none."""
        with psycopg.connect(self.events.settings.database_url) as connection:
            rows = connection.execute(
                "SELECT id FROM refused_events WHERE position(%s::bytea IN event) > 0", (name.encode(),)
            ).fetchall()
        return rows[0][0] if rows else None

    async def refused(self, name: str) -> int:
        """Return the id of the refused event of the execution `name`, once there is one."""
        await until(lambda: self.refused_id(name) is not None, SOON_SECONDS)
        return self.refused_id(name) or 0


@pytest.fixture(scope="module")
def own_parts(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with running_nats(tmp_path_factory.mktemp("nats"), free_port()) as url:
        yield Parts(parts.postgres_url, url, parts.folder)


@pytest.fixture(scope="module")
async def stack(own_parts: Parts) -> AsyncIterator[Stack]:
    executions = await Executions.migrated(own_parts, "test_event_commands_executions")
    settings = {"objects_url": executions.objects.uri(), "large_event_bytes": 2000}
    async with service("events", own_parts, "test_event_commands", **settings) as events, executions.replica():
        yield Stack(executions, events, AdminServiceStub(events.channel))


async def send_and_get_code(stack: Stack, event: Event) -> str:
    """Send one event and return the code of its verdict."""
    try:
        await send(stack.admin, event)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def test_log_shows_every_event_with_its_verdict(stack: Stack) -> None:
    name = stack.executions.create()
    events: list[Event] = [
        workflow_event("RUNNING", name=name),
        node_event("QUEUED", node="größe-节点", name=name),
        task_event("RUNNING", node="größe-节点", name=name, version=3, retry_attempt=2),
        workflow_event("RUNNING", name=name),
        task_event("RUNNING", node="evil\x1b[31m\nnode", name=name),
    ]
    codes = [await send_and_get_code(stack, event) for event in events]
    assert codes == ["OK", "OK", "OK", "ALREADY_EXISTS", "NOT_FOUND"]
    lines = await stack.logged(5, name)
    assert [line["verdict"] for line in lines] == codes
    assert [(line["kind"], line["node"], line["attempt"], line["phase"], line["version"]) for line in lines] == [
        ("workflow", "", None, "RUNNING", None),
        ("node", "größe-节点", None, "QUEUED", None),
        ("task", "größe-节点", 2, "RUNNING", 3),
        ("workflow", "", None, "RUNNING", None),
        ("task", "evil\x1b[31m\nnode", 0, "RUNNING", 0),
    ]
    assert all(line["execution"] == f"p/d/{name}" for line in lines)
    shown = (await stack.run("log", f"p/d/{name}", "--since", "1h")).out.splitlines()
    assert shown[0].split() == ["RECEIVED", "KIND", "NODE", "ATTEMPT", "PHASE", "VERSION", "VERDICT", "MESSAGE"]
    assert "größe-节点" in shown[3]
    assert r"evil\x1b[31m\nnode" in shown[5]
    assert len(shown) == 6
    later = await stack.run("log", f"p/d/{name}", "--since", "2999-01-01")
    assert (later.status, later.out) == (1, "")


async def test_log_ends_with_1_without_events_and_with_2_for_wrong_arguments(stack: Stack) -> None:
    unknown = await stack.run("log", f"p/d/{uuid.uuid4().hex}")
    assert (unknown.status, unknown.out) == (1, "")
    assert unknown.err.startswith("no events of p/d/")
    for wrong in (["log", "no-execution"], ["nonsense"]):
        result = await stack.run(*wrong)
        assert (result.status, result.out) == (2, ""), wrong
        assert "usage:" in result.err


async def test_replay_applies_a_refused_event_once_its_cause_is_gone(stack: Stack) -> None:
    name = f"e{uuid.uuid4().hex[:12]}"
    assert await send_and_get_code(stack, workflow_event("RUNNING", name=name)) == "NOT_FOUND"
    identifier = await stack.refused(name)
    (listed,) = (await stack.run("refused", "--execution", f"p/d/{name}", "--json")).out.splitlines()
    shown = json.loads(listed)
    assert (shown["id"], shown["kind"], shown["phase"], shown["verdict"]) == (
        identifier,
        "workflow",
        "RUNNING",
        "NOT_FOUND",
    )
    assert "missing entity" in shown["message"]

    still = await stack.run("replay", "--refused", str(identifier))
    assert (still.status, "NOT_FOUND" in still.out) == (1, True)
    with psycopg.connect(stack.executions.url) as connection:
        other = stack.executions.create()
        connection.execute("UPDATE executions SET execution_name = %s WHERE execution_name = %s", (name, other))
    applied = await stack.run("replay", "--refused", str(identifier), "--json")
    assert (applied.status, json.loads(applied.out)["verdict"]) == (0, "OK")
    assert "sending 1 of 1 events again" in applied.err
    assert stack.executions.phases(name) == ["RUNNING"]
    verdicts = [line["verdict"] for line in await stack.logged(3, name)]
    assert verdicts == ["NOT_FOUND", "NOT_FOUND", "OK"]
    unknown = await stack.run("replay", "--refused", str(2**62))
    assert unknown.status == 1
    assert f"no refused event has the id {2**62}" in unknown.err


async def test_replay_sends_all_events_of_an_execution_again_in_order(stack: Stack) -> None:
    name = stack.executions.create()
    compiled = CompiledWorkflowClosure(primary={"template": {"id": {"name": "x" * 3000}}})
    dynamic = TaskNodeMetadata(dynamic_workflow=DynamicWorkflowNodeMetadata(compiled_workflow=compiled))
    history: list[Event] = [
        workflow_event("RUNNING", name=name),
        node_event("QUEUED", name=name),
        node_event("DYNAMIC_RUNNING", name=name, task_node_metadata=dynamic),  # travels by reference
        node_event("SUCCEEDED", name=name),
    ]
    for event in history:
        assert await send_and_get_code(stack, event) == "OK"
    phases = ["RUNNING", "QUEUED", "DYNAMIC_RUNNING", "SUCCEEDED"]
    logged = await stack.logged(4, name)
    assert [line["phase"] for line in logged] == phases
    with psycopg.connect(stack.executions.url) as connection:  # as after the restore of a backup
        connection.execute("DELETE FROM node_executions WHERE execution_name = %s", (name,))
    result = await stack.run("replay", "--execution", f"p/d/{name}", "--json")
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert [(line["phase"], line["verdict"]) for line in lines] == [
        ("RUNNING", "ALREADY_EXISTS"),
        ("QUEUED", "OK"),
        ("DYNAMIC_RUNNING", "OK"),
        ("SUCCEEDED", "OK"),
    ]
    assert result.status == 0
    assert stack.executions.phases(name) == ["RUNNING", "SUCCEEDED"]


async def test_a_large_event_whose_object_is_gone_is_shown_and_not_replayed(stack: Stack) -> None:
    name = stack.executions.create()
    assert await send_and_get_code(stack, node_event("QUEUED", name=name, input_uri="x" * 3000)) == "OK"
    (line,) = await stack.logged(1, name)
    uri = stack.executions.objects.uri("metadata", "events", "waiting", f"{line['batch']}-{line['position']}")
    (stack.executions.objects._store.prefix / stack.executions.objects.path(uri)).unlink()
    (gone,) = await stack.logged(1, name)
    assert (gone["phase"], gone["message"]) == ("", "the event was large, and its object is gone")
    result = await stack.run("replay", "--execution", f"p/d/{name}", "--json")
    assert (result.status, json.loads(result.out)["verdict"]) == (1, "not sent")
    assert "sending 0 of 1 events again" in result.err


async def test_help_lists_every_command(stack: Stack) -> None:
    result = await stack.run("--help")
    assert (result.status, result.err) == (0, "")
    for name in ("migrate", "log", "refused", "replay"):
        assert f"python -m services.events {name} " in result.out


async def test_a_command_reports_that_database_or_nats_cannot_be_reached(stack: Stack) -> None:
    nowhere = await command("log", "p/d/e", database_url=f"postgresql://127.0.0.1:{free_port()}/none")
    assert (nowhere.status, nowhere.err.strip()) == (1, "the database cannot be reached")
    name = stack.executions.create()
    await send_and_get_code(stack, workflow_event("RUNNING", name=name))
    await stack.logged(1, name)
    urls = {"database_url": stack.events.settings.database_url, "nats_url": f"nats://127.0.0.1:{free_port()}"}
    failed = await command("replay", "--execution", f"p/d/{name}", **urls)
    assert failed.status == 1
    assert "NATS cannot be reached" in failed.err
