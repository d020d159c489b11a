"""Records of the audit log: what the method table reports, and how it is stored."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from google.protobuf.message import Message

from services.kit.audit.trail import ADDRESS_HEADER, record_of
from services.kit.errors import NotFound, PermissionDenied, ServiceError
from services.kit.rpc.audited_calls import Audit, AuditedCall
from services.kit.rpc.callers import Caller, Callers
from services.kit.rpc.table import Call, Table
from tests.support.callers import SECRET, sent_by_gateway
from tests.support.toy_service import METHOD_PATH, SERVICE, TEXT, ToyService, echo, failing


@dataclass
class Reported:
    """Calls that a table has reported, with their outcomes."""

    calls: list[tuple[AuditedCall, str, str]] = field(default_factory=list)

    async def record(self, call: AuditedCall, code: str, message: str) -> None:
        self.calls.append((call, code, message))

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        return [(code, message) for _, code, message in self.calls]


def table_of(
    handle: Callable[[Any], Awaitable[Any]], *changes: str, authorize: Callable[..., str] | None = None
) -> tuple[Table, Reported]:
    reported = Reported()
    table = Table(audit=Audit(frozenset(changes), reported.record), authorize=authorize)
    table.bind(SERVICE, ToyService(handle))
    return table, reported


async def serve(table: Table, metadata: dict[str, str] | None = None, payload: bytes | None = None) -> None:
    message = TEXT(text="a").SerializeToString() if payload is None else payload
    await table.serve(METHOD_PATH, message, Call(metadata or {}))


async def test_change_is_reported_with_caller_request_reply_and_outcome() -> None:
    table, reported = table_of(echo, METHOD_PATH)
    table.identify_callers(Callers(SECRET))
    await serve(table, sent_by_gateway(sub="ann", azp="flytectl"))
    ((call, code, message),) = reported.calls
    assert (code, message, call.method) == ("OK", "", "Echo")
    assert (call.caller.subject, call.caller.client) == ("ann", "flytectl")
    assert (call.request, call.reply) == (TEXT(text="a"), TEXT(text="a"))


async def test_failed_changes_are_reported_and_failed_reads_are_not() -> None:
    for changes, outcomes in (((METHOD_PATH,), [("NOT_FOUND", "no such thing")]), ((), [])):
        table, reported = table_of(failing(NotFound("no such thing")), *changes)
        with pytest.raises(NotFound):
            await serve(table)
        assert reported.outcomes == outcomes


async def test_denied_calls_are_reported_also_reads() -> None:
    def deny(path: str, _request: Message, caller: Caller) -> str:
        raise PermissionDenied(f"{caller.subject} may not call {path}")

    table, reported = table_of(echo, authorize=deny)
    with pytest.raises(PermissionDenied):
        await serve(table)
    assert reported.outcomes == [("PERMISSION_DENIED", f" may not call {METHOD_PATH}")]
    assert reported.calls[0][0].request == TEXT(text="a")


async def test_unreadable_changes_are_reported_and_callers_without_the_secret_are_not() -> None:
    table, reported = table_of(echo, METHOD_PATH)
    with pytest.raises(ServiceError):
        await serve(table, payload=b"\xff")
    assert [code for code, _ in reported.outcomes] == ["INVALID_ARGUMENT"]
    table.identify_callers(Callers(SECRET))
    with pytest.raises(ServiceError):
        await serve(table)
    assert len(reported.calls) == 1


async def test_change_whose_caller_has_left_is_reported() -> None:
    entered = asyncio.Event()

    async def wait(_: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    table, reported = table_of(wait, METHOD_PATH)
    call = asyncio.create_task(serve(table))
    await entered.wait()
    call.cancel()
    await asyncio.wait([call])
    assert [code for code, _ in reported.outcomes] == ["CANCELLED"]


def test_address_is_the_one_that_the_gateway_saw() -> None:
    call = AuditedCall(METHOD_PATH, "Echo", {ADDRESS_HEADER: "203.0.113.7", "x-forwarded-for": "1.2.3.4"})
    assert record_of(call, "OK", "", lambda *_: "").address == "203.0.113.7"


def test_record_has_texts_that_postgresql_stores() -> None:
    call = AuditedCall(METHOD_PATH, "Echo", {})
    call.caller = Caller("a\ud800nn", "x" * 10_000)
    call.request = TEXT(text="a\0b")
    record = record_of(call, "OK", "m\0" * 10_000, lambda _path, request, _reply: request.text)  # type: ignore[attr-defined]
    assert (record.subject, record.resource, len(record.client), len(record.message)) == ("a?nn", "a\u2400b", 512, 2048)
