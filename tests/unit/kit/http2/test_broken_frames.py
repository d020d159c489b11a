"""Violations of HTTP/2 end the connection, with their error code, and cancel its calls."""

import pytest

from services.kit.http2.frames import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_FRAME_SIZE,
    LARGEST_WINDOW,
    MAX_FRAME_SIZE,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    UINT32,
    WINDOW_UPDATE,
    frame,
)
from services.kit.http2.headers import MOST_HEADER_BYTES
from tests.support.http2_client import PATH, begun, block, request, settings, window
from tests.support.http2_served import CANCEL, connected, greeted
from tests.support.waiting import until

OPEN = begun(1)  # and not at its end
COMPLETE = request(1)
BLOCK = block(PATH)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(data, code, id=name)
        for name, data, code in (
            ("data of no stream", frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
            ("data before a request", frame(DATA, 0, 1, b"x"), PROTOCOL_ERROR),
            ("data after the end", COMPLETE + frame(DATA, 0, 1, b"x"), STREAM_CLOSED),
            ("two ends", COMPLETE + frame(DATA, END_STREAM, 1), STREAM_CLOSED),
            ("trailers after the end", COMPLETE + begun(1, flags=END_STREAM), STREAM_CLOSED),
            ("trailers that end nothing", OPEN + begun(1), PROTOCOL_ERROR),
            ("headers of no stream", begun(0), PROTOCOL_ERROR),
            ("a stream of the server's", begun(2), PROTOCOL_ERROR),
            ("a stream out of turn", begun(3) + begun(1), PROTOCOL_ERROR),
            ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, BLOCK), PROTOCOL_ERROR),
            (
                "a continuation of another",
                frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, END_HEADERS, 3),
                PROTOCOL_ERROR,
            ),
            ("something within a block", frame(HEADERS, 0, 1, BLOCK) + frame(PING, 0, 0, bytes(8)), PROTOCOL_ERROR),
            ("a frame too large", frame(DATA, 0, 1, bytes(FRAME_SIZE + 1)), FRAME_SIZE_ERROR),
            ("more padding than data", OPEN + frame(DATA, PADDED, 1, b"\x01"), PROTOCOL_ERROR),
            ("no length of padding", OPEN + frame(DATA, PADDED, 1), PROTOCOL_ERROR),
            ("more padding than headers", frame(HEADERS, END_HEADERS | PADDED, 1, b"\x02\0"), PROTOCOL_ERROR),
            ("half a priority", frame(HEADERS, END_HEADERS | PRIORITIZED, 1, bytes(4)), FRAME_SIZE_ERROR),
            ("a short priority", frame(PRIORITY, 0, 1, bytes(4)), FRAME_SIZE_ERROR),
            ("a short reset", OPEN + frame(RST_STREAM, 0, 1, bytes(3)), FRAME_SIZE_ERROR),
            ("a reset of no stream", frame(RST_STREAM, 0, 0, CANCEL), PROTOCOL_ERROR),
            ("a reset before a request", frame(RST_STREAM, 0, 1, CANCEL), PROTOCOL_ERROR),
            ("a short ping", frame(PING, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
            ("a ping of a stream", frame(PING, 0, 1, bytes(8)), PROTOCOL_ERROR),
            ("a push", frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4)), PROTOCOL_ERROR),
            ("a GOAWAY of a stream", frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL_ERROR),
            ("settings of a stream", frame(SETTINGS, 0, 1), PROTOCOL_ERROR),
            ("half a setting", frame(SETTINGS, 0, 0, bytes(5)), FRAME_SIZE_ERROR),
            ("a setting acknowledged", frame(SETTINGS, ACK, 0, bytes(6)), FRAME_SIZE_ERROR),
            ("too wide a first window", settings({INITIAL_WINDOW_SIZE: LARGEST_WINDOW + 1}), FLOW_CONTROL_ERROR),
            ("too small frames", settings({MAX_FRAME_SIZE: FRAME_SIZE - 1}), PROTOCOL_ERROR),
            ("too large frames", settings({MAX_FRAME_SIZE: LARGEST_FRAME_SIZE + 1}), PROTOCOL_ERROR),
            ("a short window", frame(WINDOW_UPDATE, 0, 0, bytes(3)), FRAME_SIZE_ERROR),
            ("a window not opened", window(0, 0), PROTOCOL_ERROR),
            ("a stream's window not opened", OPEN + window(1, 0), PROTOCOL_ERROR),
            ("a window before a request", window(1, 1), PROTOCOL_ERROR),
            ("too wide a window", window(0, LARGEST_WINDOW), FLOW_CONTROL_ERROR),
            ("too wide a window of a stream", OPEN + window(1, LARGEST_WINDOW), FLOW_CONTROL_ERROR),
            ("headers that are none", frame(HEADERS, END_HEADERS, 1, b"\xff"), COMPRESSION_ERROR),
            (
                "headers without end",
                frame(HEADERS, 0, 1, bytes(FRAME_SIZE))
                + frame(CONTINUATION, 0, 1, bytes(FRAME_SIZE)) * (MOST_HEADER_BYTES // FRAME_SIZE),
                ENHANCE_YOUR_CALM,
            ),
        )
    ],
)
async def test_a_protocol_error_ends_the_connection(data: bytes, code: int) -> None:
    async with greeted(waits=True) as (client, server):
        client.send(data)
        go_away = await client.until_frame(GOAWAY)
        assert UINT32.unpack(go_away.payload[4:]) == (code,)
        assert await client.rest() == b""
        await until(lambda: not server.connections)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/1", PREFACE[:-1] + b"x"])
async def test_a_client_without_http2_gets_a_protocol_error(data: bytes) -> None:
    async with connected() as (client, _):
        client.send(data)
        assert UINT32.unpack((await client.until_frame(GOAWAY)).payload[4:]) == (PROTOCOL_ERROR,)
        assert await client.rest() == b""


async def test_a_protocol_error_cancels_the_calls() -> None:
    async with greeted(waits=True) as (client, server):
        client.send(request(1), request(3))
        await until(lambda: len(server.requests) == 2)
        client.send(frame(DATA, 0, 0))
        go_away = await client.until_frame(GOAWAY)
        assert UINT32.unpack(go_away.payload[:4]) == (3,)
        await until(lambda: server.cancelled == 2)


async def test_a_disconnect_cancels_the_calls() -> None:
    async with greeted(waits=True) as (client, server):
        client.send(request(1), request(3), begun(5))
        await until(lambda: len(server.requests) == 2)
        client.writer.close()
        await until(lambda: server.cancelled == 2)
