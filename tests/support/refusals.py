"""Calls that must fail: their codes, messages and details."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar, cast

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

Detail = TypeVar("Detail", bound=Message)


async def refused(call: Awaitable[object], code: grpc.StatusCode, message: str = "") -> grpc.aio.AioRpcError:
    """Await `call`, which must fail with `code` and a text that contains `message`; return the error."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    assert error.value.code() is code, error.value.details()
    assert message in (error.value.details() or "")
    return error.value


async def codes(calls: Sequence[Awaitable[object]]) -> list[grpc.StatusCode]:
    """Await all calls concurrently; return the status code of each."""
    return await asyncio.gather(*map(code_of, calls))


async def code_of(call: Awaitable[object]) -> grpc.StatusCode:
    """Await `call`; return its status code."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def detail_of(error: grpc.aio.AioRpcError, detail: Detail) -> Detail:
    """Fill `detail` with the first typed detail of `error`, which must be of its type."""
    metadata = cast("grpc.aio.Metadata", error.trailing_metadata())  # grpc-stubs calls it a tuple
    status = Status.FromString(cast("bytes", metadata["grpc-status-details-bin"]))
    assert status.details[0].Unpack(detail)
    return detail
