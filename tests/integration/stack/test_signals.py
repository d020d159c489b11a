"""SignalService through the gateway, by gRPC and REST (executions.md#signalservice)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from flyteidl.admin.common_pb2 import Sort
from flyteidl.admin.signal_pb2 import (
    Signal,
    SignalGetOrCreateRequest,
    SignalList,
    SignalListRequest,
    SignalSetRequest,
)
from flyteidl.core.identifier_pb2 import SignalIdentifier, WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import Literal, Primitive, Scalar
from flyteidl.core.types_pb2 import LiteralType, SimpleType
from flyteidl.service.signal_pb2_grpc import SignalServiceStub
from google.protobuf import json_format
from google.protobuf.message import Message

from tests.support.entities import DOMAIN, PROJECT
from tests.support.refusals import codes, refused
from tests.support.sandbox import Sandbox

INVALID = grpc.StatusCode.INVALID_ARGUMENT
BOOLEAN, STRING = LiteralType(simple=SimpleType.BOOLEAN), LiteralType(simple=SimpleType.STRING)


def execution(name: str) -> WorkflowExecutionIdentifier:
    return WorkflowExecutionIdentifier(project=PROJECT, domain=DOMAIN, name=name)


def signal_id(name: str, signal: str) -> SignalIdentifier:
    return SignalIdentifier(signal_id=signal, execution_id=execution(name))


def value(**primitive: Any) -> Literal:
    return Literal(scalar=Scalar(primitive=Primitive(**primitive)))


def listed(name: str, **more: Any) -> SignalListRequest:
    return SignalListRequest(workflow_execution_id=execution(name), **({"limit": 100} | more))


@pytest.fixture(scope="session")
async def signals(sandbox: Sandbox) -> AsyncIterator[SignalServiceStub]:
    async with sandbox.channel() as channel:
        yield SignalServiceStub(channel)


async def test_signal_of_a_gate_is_made_set_and_read(signals: SignalServiceStub, sandbox: Sandbox) -> None:
    name = "signals-one"
    identifier = signal_id(name, "freigäbe")
    request = SignalGetOrCreateRequest(id=identifier, type=BOOLEAN)
    assert await signals.GetOrCreateSignal(request) == Signal(id=identifier, type=BOOLEAN)
    await refused(
        signals.SetSignal(SignalSetRequest(id=identifier, value=value(integer=1))),
        INVALID,
        "is not castable to existing",
    )
    assert not (await signals.GetOrCreateSignal(request)).HasField("value")
    async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as rest:
        body = json_format.MessageToDict(SignalSetRequest(id=identifier, value=value(boolean=False)))
        assert (await rest.post("signals", json=body)).json() == {}
        assert (await signals.GetOrCreateSignal(request)).value == value(boolean=False)
        await signals.SetSignal(SignalSetRequest(id=identifier, value=value(boolean=True)))
        page = await signals.ListSignals(listed(name))
        assert list(page.signals) == [Signal(id=identifier, type=BOOLEAN, value=value(boolean=True))]
        path = f"signals/{PROJECT}/{DOMAIN}/{name}"
        response = await rest.get(path, params={"limit": "100"})
        assert json_format.ParseDict(response.json(), SignalList()) == page
        binary = await rest.get(path, params={"limit": "100"}, headers={"accept": "application/octet-stream"})
        assert SignalList.FromString(binary.content) == page


async def test_request_with_another_type_returns_the_same_signal(signals: SignalServiceStub) -> None:
    identifier = signal_id("signals-type", "s")
    first = await signals.GetOrCreateSignal(SignalGetOrCreateRequest(id=identifier, type=BOOLEAN))
    assert await signals.GetOrCreateSignal(SignalGetOrCreateRequest(id=identifier, type=STRING)) == first


async def test_two_hundred_concurrent_requests_make_one_signal(signals: SignalServiceStub) -> None:
    identifier = signal_id("signals-many", "s")
    request = SignalGetOrCreateRequest(id=identifier, type=STRING)
    responses = await asyncio.gather(*(signals.GetOrCreateSignal(request) for _ in range(200)))
    assert responses == [Signal(id=identifier, type=STRING)] * 200
    assert len((await signals.ListSignals(listed("signals-many"))).signals) == 1
    texts = [value(string_value=f"response {number}") for number in range(50)]
    set_ = [signals.SetSignal(SignalSetRequest(id=identifier, value=text)) for text in texts]
    assert await codes(set_) == [grpc.StatusCode.OK] * 50
    assert (await signals.GetOrCreateSignal(request)).value in texts


async def test_list_is_paged_sorted_and_filtered(signals: SignalServiceStub) -> None:
    name = "signals-list"
    for signal in ("b", "a", "c"):
        await signals.GetOrCreateSignal(SignalGetOrCreateRequest(id=signal_id(name, signal), type=BOOLEAN))
    await signals.GetOrCreateSignal(SignalGetOrCreateRequest(id=signal_id("signals-other", "d"), type=BOOLEAN))

    async def names(**more: Any) -> tuple[list[str], str]:
        page = await signals.ListSignals(listed(name, **more))
        return [signal.id.signal_id for signal in page.signals], page.token

    assert await names() == (["b", "a", "c"], "")
    assert await names(limit=2) == (["b", "a"], "2")
    assert await names(limit=2, token="2") == (["c"], "")
    assert await names(sort_by=Sort(key="signal_id", direction=Sort.ASCENDING)) == (["a", "b", "c"], "")
    assert await names(sort_by=Sort(key="created_at")) == (["c", "a", "b"], "")
    assert await names(filters="value_in(signal_id,a;c)") == (["a", "c"], "")
    assert await names(filters="eq(signal.signal_id,b)") == (["b"], "")
    assert await signals.ListSignals(listed("signals-never")) == SignalList()


async def test_list_without_limit_has_a_hundred_by_grpc_and_rest(signals: SignalServiceStub, sandbox: Sandbox) -> None:
    name = "signals-without-limit"
    requests = [SignalGetOrCreateRequest(id=signal_id(name, f"s{number}"), type=BOOLEAN) for number in range(101)]
    await asyncio.gather(*map(signals.GetOrCreateSignal, requests))
    page = await signals.ListSignals(SignalListRequest(workflow_execution_id=requests[0].id.execution_id))
    assert (len(page.signals), page.token) == (100, "100")
    async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as rest:
        path = f"signals/{PROJECT}/{DOMAIN}/{name}"
        for query in ({}, {"limit": "0"}):
            assert json_format.ParseDict((await rest.get(path, params=query)).json(), SignalList()) == page


@pytest.mark.parametrize(
    ("rpc", "request_", "message"),
    [
        ("GetOrCreateSignal", SignalGetOrCreateRequest(), "missing id"),
        ("GetOrCreateSignal", SignalGetOrCreateRequest(id=signal_id("n", "s")), "missing type"),
        ("ListSignals", SignalListRequest(limit=1), "missing execution_id"),
        ("ListSignals", listed("n", filters="eq(color,red)"), "'s.color' is invalid filter"),
        ("ListSignals", listed("n", filters="eq(execution.phase,x)"), "'e' entity is not allowed in filters"),
        ("ListSignals", listed("n", filters="eq(id,many)"), ""),
        ("ListSignals", listed("n", sort_by=Sort(key="color")), "invalid sort key 'color'"),
        ("ListSignals", listed("n", token="-1"), "invalid pagination token -1 for ListSignals"),
        ("SetSignal", SignalSetRequest(), "missing id"),
        ("SetSignal", SignalSetRequest(id=signal_id("n", "s")), "missing value"),
        ("SetSignal", SignalSetRequest(id=signal_id("n", "nul\0"), value=value(integer=1)), ""),
        (
            "SetSignal",
            SignalSetRequest(id=signal_id("n", "never"), value=value(boolean=True)),
            "failed to validate that signal [",
        ),
    ],
)
async def test_bad_call_is_invalid_argument(
    rpc: str, request_: Message, message: str, signals: SignalServiceStub
) -> None:
    await refused(getattr(signals, rpc)(request_), INVALID, message)
