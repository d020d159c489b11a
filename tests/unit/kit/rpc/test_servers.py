"""What the server for the gateway promises: what it takes for a call, and how each outcome leaves it."""

import asyncio
import base64
import gzip
import socket
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status

from services.kit.errors import Code, NotFound, ResourceExhausted, ServiceError
from services.kit.rpc.http2_server import Http2Server
from services.kit.rpc.table import Table
from tests.support.parts import free_port
from tests.support.server_calls import LIMIT, ask, call, open_connection, serving
from tests.support.toy_service import COOK, TEXT, ToyService, echo, failing, frame


async def test_a_call_is_answered_with_one_frame() -> None:
    for pieces in ([frame(b"\n\x01x")], [b"\0", b"\0\0\0\x03\n", b"\x01x", b""]):
        answer = await ask(ToyService(echo), *pieces)
        assert (answer.status, answer.code, answer.body) == (200, Code.OK, frame(b"\n\x01x"))
        assert answer.headers["content-type"] == "application/grpc"


async def test_an_empty_answer_is_a_frame_too() -> None:
    assert (await ask(ToyService(echo), frame(b""))).body == frame(b"")


async def test_stored_bytes_pass_through() -> None:
    async def stored(_: Any) -> bytes:
        return b"as it was"

    assert (await ask(ToyService(stored), frame(b""))).body == frame(b"as it was")


@pytest.mark.parametrize("raised", ServiceError.__subclasses__(), ids=lambda raised: raised.__name__)
async def test_a_failure_is_headers_without_a_body(raised: type[ServiceError]) -> None:
    detail = BadRequest(field_violations=[BadRequest.FieldViolation(field="x")])
    answer = await ask(ToyService(failing(raised("why", detail))), frame(b""))
    assert (answer.status, answer.body) == (200, b"")
    assert (answer.code, answer.message) == (raised.code, "why")
    details = answer.headers["grpc-status-details-bin"]
    status = Status.FromString(base64.b64decode(details + "=" * (-len(details) % 4)))
    assert (status.code, status.message) == (raised.code, "why")
    assert status.details[0].type_url.endswith("/google.rpc.BadRequest")


@pytest.mark.parametrize(
    ("message", "header"),
    [
        ('plain, with [brackets] and: "quotes" ~', 'plain, with [brackets] and: "quotes" ~'),
        ("100%", "100%25"),
        ("é\n", "%C3%A9%0A"),
        (" at both ends ", "%20at both ends%20"),
        (" ", "%20"),
        ("", ""),
    ],
)
async def test_a_message_is_written_as_grpc_writes_it(message: str, header: str) -> None:
    answer = await ask(ToyService(failing(NotFound(message))), frame(b""))
    assert (answer.headers["grpc-message"], answer.message) == (header, message)
    assert "grpc-status-details-bin" not in answer.headers


async def test_a_long_message_is_cut_and_its_details_kept() -> None:
    detail = BadRequest(field_violations=[BadRequest.FieldViolation(field="x")])
    answer = await ask(ToyService(failing(NotFound("x" * 40_000, detail))), frame(b""))
    assert answer.message == "x" * 32_000
    assert "grpc-status-details-bin" in answer.headers


async def test_a_fault_of_ours_is_internal_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    answer = await ask(ToyService(failing(KeyError("secret"))), frame(b""))
    assert answer.code is Code.INTERNAL
    assert "secret" not in answer.message
    assert "secret" in caplog.text


async def test_a_method_nobody_serves_is_unimplemented_by_name() -> None:
    answer = await ask(ToyService(echo), frame(b""), path="/test.Kitchen/Bake")
    assert (answer.code, answer.message) == (Code.UNIMPLEMENTED, "unknown method Bake for service test.Kitchen")


@pytest.mark.parametrize(
    "body",
    [
        [b""],
        [b"\0\0"],
        [b"garbage that is no frame"],
        [frame(b"\n\x01")],
        [frame(b"\n\x01x", length=4)],
        [frame(b"\n\x01x"), frame(b"\n\x01x")],
        [frame(b"no gzip", compressed=True)],
        [frame(gzip.compress(b"\n\x01x")[:-3], compressed=True)],
    ],
)
async def test_what_is_not_one_whole_message_is_refused(body: list[bytes]) -> None:
    toy_service = ToyService(echo)
    answer = await ask(toy_service, *body, headers=(("grpc-encoding", "gzip"),))
    assert answer.code in {Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED}
    assert not toy_service.calls


async def test_a_request_over_the_limit_is_refused() -> None:
    toy_service = ToyService(echo)
    answer = await ask(toy_service, frame(bytes(LIMIT), length=LIMIT + 1), b"x")
    assert answer.code is ResourceExhausted.code
    assert answer.message == "Received message larger than max (1001 vs. 1000)"
    assert not toy_service.calls
    largest = TEXT(text="x" * (LIMIT - 3)).SerializeToString()
    assert len(largest) == LIMIT
    assert (await ask(toy_service, frame(largest))).body == frame(largest)


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_compressed_message_is_read_up_to_the_limit(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    headers = (("grpc-encoding", encoding),)
    plain = TEXT(text="x" * 900).SerializeToString()
    assert (await ask(ToyService(echo), frame(compress(plain), compressed=True), headers=headers)).body == frame(plain)
    assert (await ask(ToyService(echo), frame(plain), headers=headers)).body == frame(plain)
    bomb = compress(bytes(10_000_000))
    large = await ask(ToyService(echo), frame(bomb[:LIMIT], compressed=True), headers=headers)
    assert large.code is Code.RESOURCE_EXHAUSTED
    assert "message larger than max" in large.message


async def test_an_encoding_nobody_knows_is_unimplemented() -> None:
    answer = await ask(ToyService(echo), frame(b"x", compressed=True), headers=(("grpc-encoding", "br"),))
    assert answer.code is Code.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [("2H", 7200.0), ("1M", 60.0), ("15S", 15.0), ("250m", 0.25), ("9u", 9e-6), ("99999999n", 0.099999999)]
    + [(wrong, None) for wrong in ("", "15", "S", "-1S", "1.5S", "999999999S", "15s", "١S")],
)
async def test_grpc_timeout_is_read_as_grpc_writes_it(asked: str, seconds: float | None) -> None:
    toy_service = ToyService(echo)
    began = asyncio.get_running_loop().time()
    await ask(toy_service, frame(b""), headers=(("grpc-timeout", asked),))
    (kept,) = toy_service.calls
    if seconds is None:
        assert kept.deadline is None
    else:
        assert kept.deadline is not None
        assert seconds <= kept.deadline - began < seconds + 5


async def test_at_the_deadline_the_caller_is_told_and_the_handler_ended() -> None:
    ended = asyncio.Event()

    async def never(_: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    answer = await ask(ToyService(never), frame(b""), headers=(("grpc-timeout", "20m"),))
    assert answer.code is Code.DEADLINE_EXCEEDED
    assert ended.is_set()


async def test_a_time_out_of_the_handler_s_own_is_not_the_caller_s() -> None:
    answer = await ask(ToyService(failing(TimeoutError())), frame(b""), headers=(("grpc-timeout", "15S"),))
    assert answer.code is Code.INTERNAL


async def test_headers_are_the_call_s_metadata() -> None:
    toy_service = ToyService(echo)
    await ask(toy_service, frame(b""), headers=(("traceparent", "00-1-2-01"), ("authorization", "Bearer x")))
    assert toy_service.calls[0].metadata["traceparent"] == "00-1-2-01"
    assert toy_service.calls[0].metadata["authorization"] == "Bearer x"


async def test_a_second_server_on_the_port_is_refused() -> None:
    async with serving(ToyService(echo)) as address:
        with pytest.raises(OSError, match="in use"):
            await Http2Server(Table(), address, LIMIT).start()


@pytest.mark.parametrize(("patience", "code"), [(30.0, Code.OK), (0.0, Code.UNAVAILABLE)])
async def test_stopping_lets_calls_end_and_then_says_unavailable(patience: float, code: Code) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def slow(request: Any) -> Any:
        begun.set()
        await may_end.wait()
        return await echo(request)

    address = f"127.0.0.1:{free_port()}"
    server = Http2Server(ToyService(slow).table, address, LIMIT)
    await server.start()
    answering = asyncio.create_task(call(address, frame(b"")))
    await begun.wait()
    stopping = asyncio.create_task(server.stop(patience))
    if patience:
        may_end.set()
    answer = await answering
    assert answer.code is code
    assert code is Code.OK or answer.message == "the service is ending"
    await stopping
    with pytest.raises(ConnectionError):
        await call(address, frame(b""))


async def test_what_is_no_request_disturbs_nobody() -> None:
    async with serving(ToyService(echo)) as address:
        for said in (b"", b"PRI * HTTP/2.0", f"POST {COOK} HTTP/1.1\r\nhost: x\r\n".encode(), b"\0nonsense\r\n\r\n"):
            _, writer = await open_connection(address)
            writer.write(said)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        assert (await call(address, frame(b""))).body == frame(b"")


async def test_a_socket_serves_and_replaces_what_a_killed_process_left(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "front.sock"))
    left.close()
    async with serving(ToyService(echo), f"unix:{tmp_path}/front.sock") as address:
        request = frame(TEXT(text="soup").SerializeToString())
        assert (await call(address, request)).body == request
