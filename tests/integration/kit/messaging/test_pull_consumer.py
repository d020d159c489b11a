"""Fetching in bursts, and streams that store a message for all of their consumers, on a real NATS server."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from services.kit.errors import Unavailable
from services.kit.messaging import pull_consumer, streams
from services.kit.messaging.bus import Bus
from services.kit.messaging.messages import Stream
from services.kit.messaging.pull_consumer import Fetched, PullConsumer
from tests.support.parts import Parts
from tests.support.subscriptions import until_subscribed
from tests.support.waiting import until

FOR_ALL = Stream("FOR_ALL", ("forall.*",), max_age=0, interest_retention=True)
DURABLE = "for-all"
PULL_ACK_WAIT_SECONDS = 0.3
SOON_SECONDS = 10.0


@pytest.fixture
async def bus(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bus]:
    monkeypatch.setattr(streams, "PULL_ACK_WAIT_SECONDS", PULL_ACK_WAIT_SECONDS)
    connected = await Bus.connect(parts.nats_url, "test")
    await connected.declare_stream(FOR_ALL)
    yield connected
    await connected._jetstream.delete_stream(FOR_ALL.name)
    await connected.close()


async def opened(bus: Bus) -> PullConsumer:
    return await bus.pull_consumer(FOR_ALL, "forall.*", DURABLE)


async def append(bus: Bus, *payloads: bytes) -> None:
    """Append, and wait until the consumer has the messages: the stream acknowledges them a moment before."""
    for number, payload in enumerate(payloads):
        await bus.append("forall.a", payload, f"{datetime.now(UTC)}-{number}")
    async with asyncio.timeout(SOON_SECONDS):
        while (await bus._jetstream.consumer_info(FOR_ALL.name, DURABLE)).num_pending != len(payloads):
            pass


async def stored_messages(bus: Bus) -> int:
    return int((await bus._jetstream.stream_info(FOR_ALL.name)).state.messages)


def payloads(fetched: list[Fetched]) -> list[bytes]:
    return [message.payload for message in fetched]


async def test_a_burst_has_the_available_messages(bus: Bus) -> None:
    consumer = await opened(bus)
    assert await consumer.fetch(10) == []
    await append(bus, b"1", b"2", b"3")
    assert payloads(await consumer.fetch(2)) == [b"1", b"2"]
    assert payloads(await consumer.fetch(2)) == [b"3"]
    assert await consumer.fetch(2) == []


async def test_a_burst_is_limited_in_bytes_and_a_larger_message_comes_alone(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_consumer, "_BURST_BYTES", 2500)
    consumer = await opened(bus)
    await append(bus, b"a" * 1000, b"b" * 1000, b"c" * 5000, b"d")
    sizes = []
    for _ in range(3):
        sizes.append([len(payload) for payload in payloads(await consumer.fetch(10))])
        await until_subscribed(bus)
    assert sizes == [[1000, 1000], [5000], [1]]


async def test_a_message_not_acknowledged_is_delivered_again_with_its_first_time(bus: Bus) -> None:
    consumer = await opened(bus)
    await append(bus, b"1")
    (first,) = await consumer.fetch(10)
    assert not first.redelivered
    again: list[Fetched] = []
    async with asyncio.timeout(SOON_SECONDS):
        while not again:
            again = await consumer.fetch(10)
    assert [(message.redelivered, message.stored_at) for message in again] == [(True, first.stored_at)]
    assert abs((datetime.now(UTC) - first.stored_at).total_seconds()) < 60
    await consumer.acknowledge(again)
    await until_subscribed(bus)
    assert await consumer.fetch(10) == []


async def test_a_waiting_fetch_returns_the_next_message_as_soon_as_it_is_there(bus: Bus) -> None:
    consumer = await opened(bus)
    waiting = asyncio.create_task(consumer.fetch(10, wait_seconds=SOON_SECONDS))
    await until_subscribed(bus)
    assert not waiting.done()
    await bus.append("forall.a", b"1", f"{datetime.now(UTC)}")
    async with asyncio.timeout(SOON_SECONDS / 2):
        assert payloads(await waiting) == [b"1"]


async def test_a_waiting_fetch_ends_without_messages_in_time(bus: Bus) -> None:
    consumer = await opened(bus)
    async with asyncio.timeout(SOON_SECONDS / 2):
        assert await consumer.fetch(10, wait_seconds=0.1) == []
    await append(bus, b"1")
    assert payloads(await consumer.fetch(10, wait_seconds=0.1)) == [b"1"]


async def test_a_postponed_message_is_delivered_again_after_its_delay(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "PULL_ACK_WAIT_SECONDS", 60.0)
    await opened(bus)  # in case it does not exist
    await bus._jetstream.delete_consumer(FOR_ALL.name, DURABLE)
    consumer = await opened(bus)
    await append(bus, b"1", b"2")
    first, second = await consumer.fetch(10)
    await consumer.postpone(first, 0.2)
    await consumer.acknowledge([second])
    again = await consumer.fetch(10, wait_seconds=SOON_SECONDS)
    assert [(message.payload, message.deliveries) for message in again] == [(b"1", 2)]
    await consumer.acknowledge(again)


async def test_replicas_share_messages_which_are_deleted_after_all_consumers(bus: Bus) -> None:
    one, other = await opened(bus), await opened(bus)
    await bus.declare_stream(FOR_ALL, [streams.push_consumer_config("forall.a", "for-all-lane")])
    await append(bus, b"1", b"2")
    first, second = await one.fetch(1), await other.fetch(1)
    assert payloads(first + second) == [b"1", b"2"]
    await one.acknowledge(first)
    await other.acknowledge(second)
    assert await stored_messages(bus) == 2
    seen: list[bytes] = []

    async def record(delivery: streams.Delivery) -> None:
        seen.append(delivery.payload)

    await bus.consume(FOR_ALL, "forall.a", "for-all-lane", record)
    await until(lambda: len(seen) == 2)
    async with asyncio.timeout(SOON_SECONDS):
        while await stored_messages(bus) > 0:
            pass


async def test_messages_wait_for_a_consumer_that_was_created_ahead(bus: Bus) -> None:
    for _ in range(2):
        await bus.declare_stream(FOR_ALL, [streams.push_consumer_config("forall.a", "ahead")])
    for payload in (b"1", b"2"):
        await bus.append("forall.a", payload, f"{datetime.now(UTC)}")
    seen: list[bytes] = []

    async def record(delivery: streams.Delivery) -> None:
        seen.append(delivery.payload)

    await bus.consume(FOR_ALL, "forall.a", "ahead", record)
    await until(lambda: seen == [b"1", b"2"])


async def test_a_missing_consumer_is_unavailable(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_consumer, "_BURST_SECONDS", 0.5)
    consumer = await opened(bus)
    await bus._jetstream.delete_consumer(FOR_ALL.name, DURABLE)
    with pytest.raises(Unavailable):
        await consumer.fetch(1)


async def test_the_oldest_message_of_a_stream_has_the_time_of_its_append(bus: Bus) -> None:
    stream = Stream("STORED", ("stored.*",), max_age=3600)
    await bus.declare_stream(stream)
    assert await bus.oldest_message_time(stream) is None
    for number in range(2):
        await bus.append("stored.a", b"", str(number))
    oldest = await bus.oldest_message_time(stream)
    assert oldest is not None
    assert abs((datetime.now(UTC) - oldest).total_seconds()) < 60
    for _ in range(2):  # the second time it is gone
        await bus.delete_stream(stream.name)
    with pytest.raises(Unavailable):
        await bus.oldest_message_time(stream)


async def test_a_deleted_consumer_keeps_no_messages(bus: Bus) -> None:
    await opened(bus)
    await append(bus, b"1")
    assert await stored_messages(bus) == 1
    for _ in range(2):
        await bus.delete_consumer(FOR_ALL.name, DURABLE)
    async with asyncio.timeout(SOON_SECONDS):
        while await stored_messages(bus) > 0:
            pass
    await bus.delete_consumer("NO_SUCH_STREAM", DURABLE)


async def test_a_consumer_that_another_process_created_again_is_reported_as_a_loss(bus: Bus, parts: Parts) -> None:
    lost: list[None] = []
    await bus.declare_stream(
        FOR_ALL, [streams.pull_consumer_config("forall.*", DURABLE)], on_lost=lambda: lost.append(None)
    )
    other = await Bus.connect(parts.nats_url, "test-other")
    await other.declare_stream(FOR_ALL, [streams.pull_consumer_config("forall.*", DURABLE)], own=False)
    await bus.create_missing_streams()
    assert not lost
    await other.delete_consumer(FOR_ALL.name, DURABLE)
    await other.create_missing_streams()
    for _ in range(2):
        await bus.create_missing_streams()
        assert len(lost) == 1
    await other.close()
