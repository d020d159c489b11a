"""Configuration and creation of JetStream streams and consumers.

Functions raise nats-py's errors; `bus` translates them. Requests that nats-py does not offer go to JetStream's API
subjects, here only.
"""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from nats.aio.client import Client
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StreamConfig,
)
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from services.kit.errors import FailedPrecondition, Unavailable
from services.kit.messaging.messages import Stream

# How long JetStream stores message ids, to drop the second copy of a message that was sent twice.
DUPLICATE_WINDOW_SECONDS = 120.0
# A message of a replica that died is delivered to another after this; a replica that works longer reports progress.
ACK_WAIT_SECONDS = 3.0
# The same for pull consumers: a replica has many messages at a time, and delays some of them on purpose.
PULL_ACK_WAIT_SECONDS = 30.0
# Unacknowledged messages of all replicas of a pull consumer together: a few bursts each.
_MOST_PULL_ACK_PENDING = 8192
# Smaller than any message: a stream with this size limit refuses every append with an error.
_CLOSED_BYTES = 1
# NATS's value for no limit.
_NO_LIMIT = -1
_NANOSECONDS = 1_000_000_000
_API = "$JS.API"
# The fields of a stream's configuration that `Stream` declares.
_DECLARED = ("subjects", "discard", "max_age", "max_bytes", "max_msg_size", "duplicate_window")


@dataclass(frozen=True)
class Delivery:
    """A message of a stream on its way to a consumer."""

    subject: str
    payload: bytes
    sequence: int  # of the stream; the same at every redelivery
    stored_at: datetime  # by the stream; the same at every redelivery
    headers: Mapping[str, str] = field(default_factory=dict)


async def create_missing(js: JetStreamContext, stream: Stream) -> bool:
    """Create the stream when missing, closed if it has interest retention; return whether it was missing."""
    try:
        await js.stream_info(stream.name)
    except NotFoundError:
        await js.add_stream(_closed(_stream_config(stream)) if stream.interest_retention else _stream_config(stream))
        return True
    return False


async def update_config(js: JetStreamContext, stream: Stream) -> None:
    """Update the stream's configuration to the declared one; open it if `create_missing` has created it closed.

    The retention policy stays: NATS cannot change it (see `replace_work_queue_stream`). Nothing is written when nothing
    differs, so that this also works on a full disk.
    """
    info = (await js.stream_info(stream.name)).config
    config = _stream_config(stream)
    config.retention = info.retention
    if any(getattr(info, name) != getattr(config, name) for name in _DECLARED):
        await js.update_stream(config)


async def replace_work_queue_stream(js: JetStreamContext, stream: Stream) -> None:
    """Replace a stream with work-queue retention, from a former release, by one with interest retention.

    NATS cannot change the retention policy, so the stream is created again, with the same consumers. It refuses appends
    meanwhile; publishers retry.

    Raises:
        FailedPrecondition: the old stream has messages.
    """
    try:
        info = await js.stream_info(stream.name)
    except NotFoundError:
        return
    if info.config.retention != RetentionPolicy.WORK_QUEUE:
        return
    closed = _closed(info.config)
    await js.update_stream(closed)
    info = await js.stream_info(stream.name)
    if info.state.messages:
        await js.update_stream(closed.evolve(max_msg_size=_NO_LIMIT))
        raise FailedPrecondition(
            f"the stream {stream.name} of the former release still holds {info.state.messages} messages: "
            "let the former release work them off, then start this one again"
        )
    consumers = await js.consumers_info(stream.name)
    await js.delete_stream(stream.name)
    await js.add_stream(_stream_config(stream))
    for consumer in consumers:
        await js.add_consumer(stream.name, consumer.config)


async def create_missing_consumer(js: JetStreamContext, stream: Stream, config: ConsumerConfig) -> datetime:
    """Create the consumer unless one of its name exists; return when it was created."""
    try:
        info = await js.consumer_info(stream.name, str(config.durable_name))
    except NotFoundError:
        info = await js.add_consumer(stream.name, config)
    created: datetime = info.created
    return created


def push_consumer_config(subject: str, durable: str) -> ConsumerConfig:
    """Return a consumer that delivers the messages of `subject` strictly in order, one at a time to one replica."""
    return ConsumerConfig(
        durable_name=durable,
        deliver_group=durable,
        deliver_subject=f"_INBOX.{durable}",
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_SECONDS,
        max_ack_pending=1,
        filter_subject=subject,
    )


def pull_consumer_config(subject: str, durable: str) -> ConsumerConfig:
    """Return a consumer from which replicas fetch messages in bursts; see `Bus.pull_consumer`."""
    return ConsumerConfig(
        durable_name=durable,
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=PULL_ACK_WAIT_SECONDS,
        max_ack_pending=_MOST_PULL_ACK_PENDING,
        filter_subject=subject,
    )


async def delete_stream(js: JetStreamContext, name: str) -> None:
    """Delete the stream if it exists."""
    with contextlib.suppress(NotFoundError):
        await js.delete_stream(name)


async def delete_consumer(js: JetStreamContext, stream: str, durable: str) -> None:
    """Delete the stream's consumer if both exist."""
    with contextlib.suppress(NotFoundError):
        await js.delete_consumer(stream, durable)


async def oldest_message_time(client: Client, stream: Stream) -> datetime | None:
    """Return when the oldest message of the stream was appended, None when it is empty; raise Unavailable without it.

    nats-py omits the time from the stream's state.
    """
    response = await client.request(f"{_API}.STREAM.INFO.{stream.name}", b"")
    state = json.loads(response.data).get("state")
    if state is None:
        raise Unavailable(f"the stream {stream.name} is not there")
    return datetime.fromisoformat(state["first_ts"]) if state["messages"] else None


async def request_messages(
    client: Client,
    stream: str,
    consumer: str,
    reply: str,
    *,
    most: int,
    max_bytes: int | None,
    wait_seconds: float = 0.0,
) -> None:
    """Request the messages available to a consumer now, to be sent to the subject `reply`.

    nats-py's own fetch starts a task for each message.

    Args:
        client: the connection.
        stream: name of the stream.
        consumer: name of the consumer.
        reply: subject that the messages are sent to.
        most: messages at most.
        max_bytes: bytes of all messages; None for no limit.
        wait_seconds: how long the server also sends messages that are appended later.
    """
    bounds = {"batch": most} if max_bytes is None else {"batch": most, "max_bytes": max_bytes}
    end = {"expires": int(wait_seconds * _NANOSECONDS)} if wait_seconds else {"no_wait": True}
    request = json.dumps({**end, **bounds}).encode()
    await client.publish(f"{_API}.CONSUMER.MSG.NEXT.{stream}.{consumer}", request, reply=reply)


def _closed(config: StreamConfig) -> StreamConfig:
    """Return the configuration of a stream that refuses appends: without consumers they would not be stored."""
    return config.evolve(max_msg_size=_CLOSED_BYTES)


def _stream_config(stream: Stream) -> StreamConfig:
    return StreamConfig(
        name=stream.name,
        subjects=list(stream.subjects),
        retention=RetentionPolicy.INTEREST if stream.interest_retention else RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        max_age=stream.max_age,
        max_bytes=_NO_LIMIT,
        max_msg_size=_NO_LIMIT,
        duplicate_window=DUPLICATE_WINDOW_SECONDS,
    )
