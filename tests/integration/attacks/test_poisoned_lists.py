"""Nobody can write what makes a list unreadable: not by any method, not in any field, not at any depth."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import grpc
import pytest
from google.protobuf.descriptor import Descriptor

from gateway import routes
from tests.support.echo_services import METHODS
from tests.support.poisons import groups, poisoned
from tests.support.sandbox import Sandbox

WRITES = sorted(method.name for method in routes.load().methods if method.kind == "write")
AT_ONCE = 50
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
async def channel(attacked: Sandbox) -> AsyncIterator[grpc.aio.Channel]:
    async with attacked.channel() as opened:
        yield opened


async def answers(
    channel: grpc.aio.Channel, method: str, requests: Sequence[bytes]
) -> list[tuple[grpc.StatusCode, str]]:
    """Send serialized requests; answer code and text of each."""
    call = channel.unary_unary(f"/{method}", request_serializer=bytes, response_deserializer=bytes)

    async def answer(request: bytes) -> tuple[grpc.StatusCode, str]:
        try:
            await call(request, timeout=10)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        return grpc.StatusCode.OK, ""

    told = []
    for first in range(0, len(requests), AT_ONCE):
        told += await asyncio.gather(*map(answer, requests[first : first + AT_ONCE]))
    return told


@pytest.mark.parametrize("method", WRITES)
async def test_a_write_refuses_every_poison_in_every_field(channel: grpc.aio.Channel, method: str) -> None:
    kind: Descriptor = METHODS[f"/{method}"].input_type
    poisons = dict(poisoned(kind))
    told = await answers(channel, method, list(poisons.values()))
    accepted = {
        where: (code.name, text)
        for where, (code, text) in zip(poisons, told, strict=True)
        if code is not INVALID or not text.startswith("invalid value for ")
    }
    assert not accepted
    assert groups(98) in poisons.values()
