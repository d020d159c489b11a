"""Requests whose memory is a hundred times their size: they are refused, and other clients are served meanwhile."""

import asyncio
import time
from typing import NamedTuple

import grpc
import psutil
import pytest
from flyteidl.admin.common_pb2 import ObjectGetRequest
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.kit.protobuf.wire import message_field
from tests.support.entities import identifier
from tests.support.sandbox import Sandbox

CREATE = "/flyteidl.service.AdminService/CreateWorkflow"
NAME = identifier(ResourceType.WORKFLOW, "many_parts")
# A spec with as many empty sub-workflows as fit, and with nearly as many as are allowed, of which one has a node.
TOO_MANY = b"\x12\x00" * 2_090_000
ALLOWED = b"\x12\x02\x22\x00" + b"\x12\x00" * 990_000
# Four times what one takes; before, they took a gigabyte.
MOST_GROWTH = 450 << 20
SECONDS = 2.0


class Case(NamedTuple):
    spec: bytes
    compression: grpc.Compression
    calls: int
    code: grpc.StatusCode


CASES = {
    "gzip": Case(TOO_MANY, grpc.Compression.Gzip, 32, grpc.StatusCode.RESOURCE_EXHAUSTED),
    "plain": Case(TOO_MANY, grpc.Compression.NoCompression, 6, grpc.StatusCode.RESOURCE_EXHAUSTED),
    "allowed": Case(ALLOWED, grpc.Compression.Gzip, 2, grpc.StatusCode.INVALID_ARGUMENT),
}


@pytest.mark.parametrize("name", CASES)
async def test_requests_of_many_parts_take_bounded_memory(attacked: Sandbox, plan: Identifier, name: str) -> None:
    spec, compression, calls, code = CASES[name]
    request = message_field(1, NAME.SerializeToString()) + message_field(2, spec)
    registry = psutil.Process(attacked.pid("registry"))
    before = peak = registry.memory_info().rss
    slowest = 0.0
    own_connection = [("grpc.use_local_subchannel_pool", 1)]
    async with attacked.channel() as others, grpc.aio.insecure_channel(attacked.target, own_connection) as channel:
        call = channel.unary_unary(CREATE, bytes, bytes)
        codes = [asyncio.ensure_future(call(request, compression=compression).code()) for _ in range(calls)]
        while not all(each.done() for each in codes):
            begun = time.monotonic()
            await AdminServiceStub(others).GetLaunchPlan(ObjectGetRequest(id=plan))
            slowest, peak = max(slowest, time.monotonic() - begun), max(peak, registry.memory_info().rss)
        assert {await each for each in codes} == {code}
    assert slowest < SECONDS
    assert peak - before < MOST_GROWTH
