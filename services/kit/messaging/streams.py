"""JetStream streams and their consumers: what they look like, and how they come to be.

The configuration of a stream or a consumer stands here once, however many services make sure that it exists. Pure
but for the JetStream context or the connection it is given; `bus` translates the failures. What nats-py does not offer
is requested of JetStream's own subjects here, and nowhere else.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from nats.aio.client import Client
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    ConsumerInfo,
    DeliverPolicy,
    DiscardPolicy,
    PersistMode,
    RetentionPolicy,
    StreamConfig,
)
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from services.kit.errors import FailedPrecondition, Unavailable

# How long JetStream remembers message ids, to drop the second copy of a message that was sent twice.
DUPLICATE_WINDOW_SECONDS = 120.0
# A consumer that dies is replaced after this; one that works longer renews its claim in between.
ACK_WAIT_SECONDS = 3.0
# Who fetches holds many messages, some of them on purpose: what a dead one had comes again after this.
FETCHED_ACK_WAIT_SECONDS = 30.0
# Messages that all fetching replicas together may hold; a few fetches each.
_FETCHED_AT_MOST = 8192
# A reader of what is stored needs its consumer for a moment only; the server forgets it after this.
_READER_SECONDS = 60.0
# Smaller than any message of ours: a stream that takes no more than this takes nothing, and says so to who appends.
_TAKES_NOTHING = 1
# NATS's word for no limit.
_NO_LIMIT = -1
_API = "$JS.API"
# Of a stream's configuration, what `Stream` decides.
_SHAPE = ("subjects", "discard", "max_age", "max_bytes", "max_msg_size", "duplicate_window", "persist_mode")


@dataclass(frozen=True)
class Stream:
    """A JetStream stream on file; messages older than `max_age` seconds go, 0 keeps them for ever.

    With `max_bytes` the oldest go when it is larger. With `until_done` a message also goes once every durable consumer
    of its subject is done with it; a message that nobody consumes is not kept, so consumers are made first. With
    `lossy` the last messages may be lost when the server is killed, and an append costs no wait for the disk.
    """

    name: str
    subjects: tuple[str, ...]
    max_age: float
    until_done: bool = False
    max_bytes: int = 0
    lossy: bool = False


@dataclass(frozen=True)
class Delivery:
    """A message of a stream on its way to a consumer."""

    subject: str
    payload: bytes
    sequence: int  # of the stream; the same at every redelivery
    stored_at: datetime  # by the stream; the same at every redelivery
    headers: Mapping[str, str] = field(default_factory=dict)


async def ensure(js: JetStreamContext, stream: Stream, consumers: Sequence[ConsumerConfig] = ()) -> bool:
    """Create what is missing of the stream and its consumers; answers whether the stream was."""
    missing = False
    try:
        await js.stream_info(stream.name)
    except NotFoundError:
        missing = True
        await js.add_stream(_closed(_stream_config(stream)) if stream.until_done else _stream_config(stream))
    for consumer in consumers:
        await ensure_consumer(js, stream, consumer)
    return missing


async def shape(js: JetStreamContext, stream: Stream) -> None:
    """Bring the stream to its shape, and open it if it was closed until its consumers were there.

    How long a message is kept for its consumers is left as it is: NATS changes that only with `renew`. Nothing is
    written when nothing differs, so that it also goes well on a full disk.
    """
    found = (await js.stream_info(stream.name)).config
    config = _stream_config(stream)
    config.retention = found.retention
    if any(getattr(found, name) != getattr(config, name) for name in _SHAPE):
        await js.update_stream(config)


async def renew(js: JetStreamContext, stream: Stream) -> None:
    """Make a stream of a former release, which dropped a message with its first consumer, keep it for all.

    NATS cannot turn the one kind into the other, so the stream is made anew. It takes nothing meanwhile, hence whoever
    appends tries again, and its consumers get the next one's messages where they got the last one's. Raises
    FailedPrecondition while the old stream holds messages.
    """
    try:
        found = await js.stream_info(stream.name)
    except NotFoundError:
        return
    if found.config.retention != RetentionPolicy.WORK_QUEUE:
        return
    closed = _closed(found.config)
    await js.update_stream(closed)
    found = await js.stream_info(stream.name)
    if found.state.messages:
        await js.update_stream(closed.evolve(max_msg_size=_NO_LIMIT))
        raise FailedPrecondition(
            f"the stream {stream.name} of the former release still holds {found.state.messages} messages: "
            "let the former release work them off, then start this one again"
        )
    consumers = await js.consumers_info(stream.name)
    await js.delete_stream(stream.name)
    await js.add_stream(_stream_config(stream))
    for consumer in consumers:
        await js.add_consumer(stream.name, consumer.config)


async def ensure_consumer(js: JetStreamContext, stream: Stream, config: ConsumerConfig) -> None:
    """Create the consumer unless there is one of its name."""
    try:
        await js.consumer_info(stream.name, str(config.durable_name))
    except NotFoundError:
        await js.add_consumer(stream.name, config)


def one_after_the_other(subject: str, durable: str) -> ConsumerConfig:
    """A consumer that hands out the messages of `subject` strictly in order, to one replica at a time."""
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


def fetched(subject: str, durable: str) -> ConsumerConfig:
    """A consumer from which every replica fetches as many messages as it likes; see `pull`."""
    return ConsumerConfig(
        durable_name=durable,
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=FETCHED_ACK_WAIT_SECONDS,
        max_ack_pending=_FETCHED_AT_MOST,
        filter_subject=subject,
    )


async def add_reader(js: JetStreamContext, stream: Stream, since: datetime) -> ConsumerInfo:
    """Make a consumer that hands out what the stream holds from `since` on, for one reader and one time."""
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_TIME,
        opt_start_time=since.astimezone(UTC),
        ack_policy=AckPolicy.NONE,
        inactive_threshold=_READER_SECONDS,
        mem_storage=True,
        num_replicas=1,
    )
    return await js.add_consumer(stream.name, config)


async def oldest(client: Client, stream: Stream) -> datetime | None:
    """Return when the oldest message of the stream was appended, None when it is empty; raises Unavailable.

    nats-py leaves the time out of what the server says.
    """
    answer = await client.request(f"{_API}.STREAM.INFO.{stream.name}", b"")
    state = json.loads(answer.data).get("state")
    if state is None:
        raise Unavailable(f"the stream {stream.name} is not there")
    return datetime.fromisoformat(state["first_ts"]) if state["messages"] else None


async def request_messages(
    client: Client, stream: str, consumer: str, reply: str, *, most: int, max_bytes: int | None
) -> None:
    """Request what a consumer has now, to come to `reply`: `most` messages, and `max_bytes` unless that is None.

    nats-py's own fetch starts a task for each message.
    """
    bounds = {"batch": most} if max_bytes is None else {"batch": most, "max_bytes": max_bytes}
    request = json.dumps({"no_wait": True, **bounds}).encode()
    await client.publish(f"{_API}.CONSUMER.MSG.NEXT.{stream}.{consumer}", request, reply=reply)


def _closed(config: StreamConfig) -> StreamConfig:
    """Return the stream as it takes nothing: what has no consumer yet would be acknowledged and not kept."""
    return config.evolve(max_msg_size=_TAKES_NOTHING)


def _stream_config(stream: Stream) -> StreamConfig:
    return StreamConfig(
        name=stream.name,
        subjects=list(stream.subjects),
        retention=RetentionPolicy.INTEREST if stream.until_done else RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        max_age=stream.max_age,
        max_bytes=stream.max_bytes or _NO_LIMIT,
        max_msg_size=_NO_LIMIT,
        duplicate_window=DUPLICATE_WINDOW_SECONDS,
        persist_mode=PersistMode.ASYNC if stream.lossy else None,
    )
