"""Service requests, streams and consumers on a real NATS server."""

import asyncio
from pathlib import Path

import pytest
from google.protobuf.wrappers_pb2 import BytesValue, StringValue
from nats.aio.msg import Msg

from services.kit.errors import Internal, NotFound, Unavailable
from services.kit.messaging import bus as bus_module
from services.kit.messaging import push_consumer, streams
from services.kit.messaging.bus import Bus
from services.kit.messaging.messages import ServiceRequest, Stream
from services.kit.messaging.streams import Delivery
from tests.support.parts import Parts, free_port, running_nats
from tests.support.waiting import until

ECHO = ServiceRequest("ask.test.echo", StringValue, StringValue)
UNSERVED = ServiceRequest("ask.test.unserved", StringValue, StringValue, deadline=0.3)
SLOW = ServiceRequest("ask.test.slow", StringValue, StringValue, deadline=0.2)
FAILING = ServiceRequest("ask.test.failing", StringValue, StringValue)
BROKEN = ServiceRequest("ask.test.broken", StringValue, StringValue)
HOUR = 3600.0


async def test_a_service_request_has_its_reply(bus: Bus) -> None:
    async def echo(request: StringValue) -> StringValue:
        return StringValue(value=request.value * 2)

    await bus.serve(ECHO, echo)
    assert (await bus.request(ECHO, StringValue(value="ü"))).value == "üü"


async def test_a_failure_is_raised_at_the_caller_with_class_message_and_details(bus: Bus) -> None:
    async def fail(_: StringValue) -> StringValue:
        raise NotFound("no such task", BytesValue(value=b"detail"))

    await bus.serve(FAILING, fail)
    with pytest.raises(NotFound) as raised:
        await bus.request(FAILING, StringValue())
    assert raised.value.message == "no such task"
    assert raised.value.details == (BytesValue(value=b"detail"),)


async def test_an_unexpected_exception_is_internal_without_its_text(bus: Bus) -> None:
    async def fail(_: StringValue) -> StringValue:
        raise RuntimeError("secret")

    await bus.serve(BROKEN, fail)
    with pytest.raises(Internal) as raised:
        await bus.request(BROKEN, StringValue())
    assert "secret" not in raised.value.message


async def test_a_request_without_a_server_is_unavailable(bus: Bus) -> None:
    with pytest.raises(Unavailable, match=r"nobody answers ask\.test\.unserved"):
        await bus.request(UNSERVED, StringValue())


async def test_close_finishes_the_service_requests_that_have_been_received(bus: Bus, parts: Parts) -> None:
    slow = ServiceRequest("ask.test.finished", StringValue, StringValue, deadline=5.0)
    server = await Bus.connect(parts.nats_url, "test")
    received, released = asyncio.Event(), asyncio.Event()

    async def echo(request: StringValue) -> StringValue:
        received.set()
        await released.wait()
        return request

    await server.serve(slow, echo)
    reply = asyncio.create_task(bus.request(slow, StringValue(value="x")))
    await asyncio.wait_for(received.wait(), 5)
    closed = asyncio.create_task(server.close())
    await asyncio.sleep(0)
    released.set()
    await closed
    assert (await reply).value == "x"


async def test_close_cancels_a_service_request_that_takes_too_long(
    bus: Bus, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "_SERVING_END_SECONDS", 0.1)
    endless = ServiceRequest("ask.test.endless", StringValue, StringValue, deadline=1.0)
    server = await Bus.connect(parts.nats_url, "test")
    received, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(_: StringValue) -> StringValue:
        received.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return StringValue()

    await server.serve(endless, hang)
    reply = asyncio.create_task(bus.request(endless, StringValue()))
    await asyncio.wait_for(received.wait(), 5)
    await asyncio.wait_for(server.close(), 1)
    await asyncio.wait_for(cancelled.wait(), 1)
    with pytest.raises(Unavailable):
        await reply


async def test_a_late_reply_is_unavailable(bus: Bus) -> None:
    async def never(_: StringValue) -> StringValue:
        await asyncio.Event().wait()
        return StringValue()

    await bus.serve(SLOW, never)
    with pytest.raises(Unavailable, match="in time"):
        await bus.request(SLOW, StringValue())


async def test_a_request_waits_for_an_owner_that_is_starting(bus: Bus) -> None:
    late = ServiceRequest("ask.test.late", StringValue, StringValue)
    reply = asyncio.create_task(bus.request(late, StringValue(value="x")))
    await asyncio.sleep(0)

    async def echo(request: StringValue) -> StringValue:
        return request

    await bus.serve(late, echo)
    assert (await reply).value == "x"


async def test_messages_are_handled_in_order_and_a_failed_one_is_retried_first(bus: Bus) -> None:
    stream = Stream("ORDER", ("order.*",), HOUR)
    await bus.declare_stream(stream)
    seen: list[bytes] = []
    finished = asyncio.Event()

    async def record(delivery: Delivery) -> None:
        seen.append(delivery.payload)
        if delivery.payload == b"1" and seen.count(b"1") < 3:
            raise RuntimeError("not yet")
        if delivery.payload == b"4":
            finished.set()

    for number in range(5):
        await bus.append("order.a", str(number).encode(), f"order-{number}")
    await bus.consume(stream, "order.a", "order", record)
    await asyncio.wait_for(finished.wait(), 10)
    assert seen == [b"0", b"1", b"1", b"1", b"2", b"3", b"4"]


async def test_append_of_the_same_id_twice_stores_one_copy(bus: Bus) -> None:
    await bus.declare_stream(Stream("ONCE", ("once.*",), HOUR))
    assert await bus.append("once.a", b"x", "same") == await bus.append("once.a", b"x", "same")


async def test_append_without_a_stream_is_unavailable(bus: Bus) -> None:
    with pytest.raises(Unavailable):
        await bus.append("nowhere.a", b"x", "id")


async def test_a_killed_replica_is_replaced_from_the_message_it_had(parts: Parts) -> None:
    stream = Stream("TAKEOVER", ("takeover.*",), HOUR)
    first, second = await Bus.connect(parts.nats_url, "test"), await Bus.connect(parts.nats_url, "test")
    await first.declare_stream(stream)
    taken, finished = asyncio.Event(), asyncio.Event()
    seen: list[bytes] = []

    async def hang(_: Delivery) -> None:
        taken.set()
        await asyncio.Event().wait()

    async def record(delivery: Delivery) -> None:
        seen.append(delivery.payload)
        if delivery.payload == b"2":
            finished.set()

    await first.consume(stream, "takeover.a", "takeover", hang)
    await first.append("takeover.a", b"1", "takeover-1")
    await asyncio.wait_for(taken.wait(), 5)
    await first._client.close()  # as a killed process: nothing finished, nothing acknowledged
    await second.append("takeover.a", b"2", "takeover-2")
    await second.consume(stream, "takeover.a", "takeover", record)
    await asyncio.wait_for(finished.wait(), 15)
    await second.close()
    assert seen == [b"1", b"2"]


async def test_a_message_with_progress_is_not_delivered_to_another_replica(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "ACK_WAIT_SECONDS", 1.0)
    monkeypatch.setattr(push_consumer, "_PROGRESS_SECONDS", 0.1)
    stream = Stream("CLAIM", ("claim.*",), HOUR)
    first, second = await Bus.connect(parts.nats_url, "test"), await Bus.connect(parts.nats_url, "test")
    await first.declare_stream(stream)
    begun: list[bytes] = []
    lapsed, finished = asyncio.Event(), asyncio.Event()

    async def leave(message: Msg) -> None:
        if message.metadata.num_delivered == 3:  # two claims that were not renewed have ended
            lapsed.set()

    async def take_long(delivery: Delivery) -> None:
        begun.append(delivery.payload)
        if delivery.payload == b"1":
            await first.append("claim.b", b"", "claim-b")
            await lapsed.wait()
        else:
            finished.set()

    unrenewed = streams.push_consumer_config("claim.b", "unrenewed")
    await first._jetstream.subscribe("claim.b", stream=stream.name, config=unrenewed, manual_ack=True, cb=leave)
    for bus in (first, second):
        await bus.consume(stream, "claim.a", "claim", take_long)
    for payload in (b"1", b"2"):
        await first.append("claim.a", payload, f"claim-{payload.decode()}")
    await asyncio.wait_for(finished.wait(), 30)
    await first.close()
    await second.close()
    assert begun == [b"1", b"2"]


async def test_a_connection_survives_a_restart_of_the_server(tmp_path: Path) -> None:
    port = free_port()

    async def echo(request: StringValue) -> StringValue:
        return request

    with running_nats(tmp_path, port) as url:
        bus = await Bus.connect(url, "test")
        await bus.serve(ECHO, echo)
    await until(lambda: not bus.connected)
    with running_nats(tmp_path, port):
        assert (await bus.request(ECHO, StringValue(value="again"))).value == "again"
        await bus.close()


async def test_a_bus_that_is_closed_without_its_server_reconnects_no_more(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    with running_nats(tmp_path, free_port()) as url:
        bus = await Bus.connect(url, "test")
    await until(lambda: not bus.connected)
    await bus.close()
    await until(lambda: asyncio.all_tasks() <= before)


async def test_an_unreachable_server_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.kit.messaging.nats_server._START_SECONDS", 0.3)
    with pytest.raises(Unavailable, match="NATS cannot be reached"):
        await Bus.connect(f"nats://127.0.0.1:{free_port()}", "test")
