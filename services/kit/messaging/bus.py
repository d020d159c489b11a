"""NATS for one service: questions asked and answered, facts and batches kept in JetStream, replies by inbox.

The one place that knows nats-py. A failure of the server or of the connection is raised as `Unavailable`; a failure
that another service answered with is raised as the class it was raised as there.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Self

from google.rpc.status_pb2 import Status
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.js.api import ConsumerConfig
from nats.js.client import JetStreamContext
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NoStreamResponseError

from services.kit.errors import Internal, ServiceError, Unavailable, from_status, to_status
from services.kit.messaging import provisioning as kept_streams
from services.kit.messaging import streams
from services.kit.messaging.batch_consumer import BatchConsumer, Fetched
from services.kit.messaging.messages import Reply, Request, ServiceRequest
from services.kit.messaging.nats_server import NatsServer, TlsFiles
from services.kit.messaging.provisioning import StreamProvisioner
from services.kit.messaging.streams import ACK_WAIT_SECONDS, Delivery, Stream

__all__ = ["APPEND_TIMEOUT_SECONDS", "Bus", "Delivery", "Stream", "StreamMissing"]

log = logging.getLogger(__name__)

# A reply that carries this header holds a google.rpc.Status instead of the answer.
_FAILED = "Flyte-Failed"
_MESSAGE_ID = "Nats-Msg-Id"
# The inbox of one request: it has more parts than a consumer's, to which JetStream alone sends.
_ASKED_FROM = re.compile(r"_INBOX(\.[^.*>]+){2,}")
# Between two tries while nobody answers a question: an owner that restarts is back within a second or two.
_ASK_AGAIN_SECONDS = 0.05
# An append that is not acknowledged by now was lost, as with a server that was killed; sending it again with the same
# id is harmless. Much shorter than the patience of those who wait for it.
APPEND_TIMEOUT_SECONDS = 1.0
# For everything else that JetStream is asked.
_API_TIMEOUT_SECONDS = 5.0
_RENEW_SECONDS = ACK_WAIT_SECONDS / 3
# Messages of one burst while a stream is read.
_READ_AT_ONCE = 1000
# After a failure the same message is tried again, first soon, then with patience.
_RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)


_NO_FILES = TlsFiles()


class StreamMissing(Unavailable):
    """The stream was deleted, or its server has lost it."""


class Bus:
    """One connection to NATS. It reconnects by itself, for ever."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name
        self._stream: JetStreamContext = client.jetstream(timeout=_API_TIMEOUT_SECONDS)
        self._kept = StreamProvisioner(self._stream)
        self._broken = ""  # what is wrong with the kept streams, when they were last looked after
        self._loops: set[asyncio.Task[None]] = set()

    @classmethod
    async def connect(cls, url: str, name: str, tls: TlsFiles = _NO_FILES) -> Self:
        """Connect as `name`, which is also the queue group of its answers; raises Unavailable."""
        server = NatsServer.parse(url)
        try:
            return cls(await server.connect(name, tls, _logged), name)
        except (NatsError, OSError, TimeoutError) as error:
            raise Unavailable(f"NATS cannot be reached at {server}") from error

    async def close(self) -> None:
        """Finish what is being answered, stop consuming, send what is buffered, then disconnect."""
        with contextlib.suppress(NatsError):
            await self._client.drain()
        for loop in self._loops:
            loop.cancel()

    @property
    def connected(self) -> bool:
        """Whether the server can be reached now."""
        return self._client.is_connected

    async def request(self, question: ServiceRequest[Request, Reply], request: Request) -> Reply:
        """Ask the owner; raises its failure, or Unavailable when there is no answer within the question's deadline."""
        clock = asyncio.get_running_loop().time
        end = clock() + question.deadline
        payload = request.SerializeToString()
        while True:
            try:
                message = await self._send_request(question.subject, payload, max(end - clock(), 0.001))
                break
            except NoRespondersError as error:
                if clock() + _ASK_AGAIN_SECONDS > end:
                    raise Unavailable(f"nobody answers {question.subject}") from error
                await asyncio.sleep(_ASK_AGAIN_SECONDS)
            except (NatsError, TimeoutError) as error:
                raise Unavailable(f"no answer from {question.subject} in time") from error
        if message.headers and _FAILED in message.headers:
            raise from_status(Status.FromString(message.data))
        return question.reply.FromString(message.data)

    async def _send_request(self, subject: str, payload: bytes, seconds: float) -> Msg:
        if not self.connected:
            # What is sent now would be delivered late, to an inbox that nobody reads any more.
            raise NoRespondersError
        return await self._client.request(subject, payload, timeout=seconds)

    async def serve(
        self, question: ServiceRequest[Request, Reply], handler: Callable[[Request], Awaitable[Reply | bytes]]
    ) -> None:
        """Answer `question` from now on; each is answered by one replica. Questions are answered side by side."""

        async def respond(message: Msg) -> None:
            try:
                reply = await handler(question.request.FromString(message.data))
                data = reply if isinstance(reply, bytes) else reply.SerializeToString()
                await self._client.publish(message.reply, data)
            except ServiceError as error:
                await self._refuse(message, error)
            except Exception:
                log.exception("question failed", extra={"subject": question.subject})
                await self._refuse(message, Internal(f"{question.subject} failed"))

        async def start(message: Msg) -> None:
            # NATS lets an answer go wherever the question says, which the one who asked may not send to.
            if _ASKED_FROM.fullmatch(message.reply):
                self._in_background(respond(message))
            else:
                log.warning("a question wants its answer elsewhere", extra={"subject": question.subject})

        await self._client.subscribe(question.subject, queue=self._name, cb=start)

    async def _refuse(self, message: Msg, error: ServiceError) -> None:
        await self._client.publish(message.reply, to_status(error).SerializeToString(), headers={_FAILED: "1"})

    async def ensure(
        self,
        stream: Stream,
        consumers: Sequence[ConsumerConfig] = (),
        *,
        own: bool = True,
        lost: Callable[[], None] | None = None,
    ) -> None:
        """Create the stream and these consumers, and again when they are gone; safe to call from every replica.

        Its owner also brings it to this shape. `lost` is called whenever the stream was gone, with what was in it.
        """
        with _unavailable("the stream cannot be made ready"):
            await self._kept.ensure(stream, consumers, own=own, lost=lost)

    async def mend(self) -> None:
        """Make streams and consumers again that were made here and are gone; raises Unavailable."""
        with _unavailable("a stream cannot be made again"):
            await self._kept.mend()

    async def keep(self) -> None:
        """Look after the streams and consumers that were made here, for ever."""
        while True:
            await asyncio.sleep(kept_streams.LOOK_SECONDS)
            try:
                if self.connected:
                    await self.mend()
                self._broken = ""
            except Exception as error:  # noqa: BLE001 - told by the readiness of the process, which goes on
                if not self._broken:
                    log.warning("streams are looked after later: %r", error)
                self._broken = str(error)

    async def check(self) -> None:
        """Raise Unavailable unless the server can be reached and what was made there is there."""
        if not self.connected:
            raise Unavailable("NATS cannot be reached")
        if self._broken:
            raise Unavailable(self._broken)

    async def renew(self, stream: Stream) -> None:
        """Replace a stream that a former release made for one consumer a message.

        Raises FailedPrecondition when messages wait in it.
        """
        with _unavailable("the stream cannot be made anew"):
            await streams.renew(self._stream, stream)

    async def oldest(self, stream: Stream) -> datetime | None:
        """When the oldest message of the stream was appended; None when it is empty."""
        with _unavailable("the stream cannot be asked"):
            return await streams.oldest(self._client, stream)

    async def append(
        self, subject: str, payload: bytes, message_id: str, headers: Mapping[str, str] | None = None
    ) -> int:
        """Append to the stream of `subject`; answers its sequence once it is on file.

        Raises Unavailable, and StreamMissing when there is no such stream any more.
        Appending the same `message_id` again within two minutes keeps one copy.
        """
        if not self.connected:
            # The client would keep it and send it when the server is back, though its sender was told that it failed.
            raise Unavailable("NATS cannot be reached")
        told = {**(headers or {}), _MESSAGE_ID: message_id}
        with _unavailable("the stream does not take messages"):
            try:
                ack = await self._stream.publish(subject, payload, timeout=APPEND_TIMEOUT_SECONDS, headers=told)
            except NoStreamResponseError as error:
                raise StreamMissing(f"no stream takes {subject}") from error
        return ack.seq

    async def consume(
        self,
        stream: Stream,
        subject: str,
        durable: str,
        handler: Callable[[Delivery], Awaitable[None]],
    ) -> None:
        """Hand each message on `subject` to `handler`, strictly one after the other across all replicas.

        A message is done when the handler returns. While it works its claim is renewed; when it raises, the same
        message is tried again here, with growing patience, and nothing behind it moves: order matters more than
        progress.
        Replicas share the durable consumer; when one dies another takes the message over.
        """

        async def work(message: Msg) -> None:
            told = message.metadata
            headers = dict(message.headers or {})
            delivery = Delivery(message.subject, message.data, told.sequence.stream, told.timestamp, headers)
            with _renewed(message):
                await _until_done(handler, delivery, durable)
            with contextlib.suppress(NatsError):
                await message.ack()

        config = streams.one_after_the_other(subject, durable)
        with _unavailable("the consumer cannot be made ready"):
            await self._kept.ensure_consumer(stream, config)
            await self._stream.subscribe(
                subject, queue=durable, durable=durable, stream=stream.name, config=config, manual_ack=True, cb=work
            )

    async def pull(self, stream: Stream, subject: str, durable: str) -> BatchConsumer:
        """Fetch messages on `subject` in bursts from now on, sharing them with other replicas."""
        with _unavailable("the consumer cannot be made ready"):
            await self._kept.ensure_consumer(stream, streams.fetched(subject, durable))
            pull = BatchConsumer(self._client, stream.name, durable)
            await pull.open()
        return pull

    async def read(self, stream: Stream, since: datetime) -> AsyncIterator[list[Fetched]]:
        """What the stream holds from `since` on, in bursts, until there is no more; raises Unavailable."""
        with _unavailable("the stream cannot be read"):
            reader = await streams.add_reader(self._stream, stream, since)
        pull = BatchConsumer(self._client, stream.name, reader.name)
        await pull.open()
        try:
            while burst := await pull.fetch(_READ_AT_ONCE):
                yield burst
        finally:
            await pull.close()

    async def subscribe(self, subject: str, handler: Callable[[bytes], Awaitable[None]]) -> None:
        """Hand what is sent to `subject`, which may hold wildcards, to `handler`, one after the other."""

        async def receive(message: Msg) -> None:
            await handler(message.data)

        with _unavailable("NATS cannot be reached"):
            await self._client.subscribe(subject, cb=receive)

    async def send(self, subject: str, payload: bytes) -> None:
        """Send to an inbox; nobody listening is no error. Raises Unavailable without a connection."""
        with _unavailable("NATS cannot be reached"):
            await self._client.publish(subject, payload)

    def _in_background(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._loops.add(task)
        task.add_done_callback(self._loops.discard)


@contextlib.contextmanager
def _renewed(message: Msg) -> Iterator[None]:
    """Renew the claim on a message now and then until the block ends; one that is short costs a timer."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None
    renewal: asyncio.Task[None] | None = None  # which nothing else would keep alive

    async def renew() -> None:
        with contextlib.suppress(NatsError):
            await message.in_progress()

    def begin() -> None:
        # Each by itself: a loop of them could not be ended for certain, as the client drops cancellations.
        nonlocal timer, renewal
        timer = loop.call_later(_RENEW_SECONDS, begin)
        renewal = loop.create_task(renew())

    timer = loop.call_later(_RENEW_SECONDS, begin)
    try:
        yield
    finally:
        timer.cancel()


async def _until_done(handler: Callable[[Delivery], Awaitable[None]], delivery: Delivery, durable: str) -> None:
    tries = 0
    while True:
        try:
            await handler(delivery)
        except Exception:
            wait = _RETRY_SECONDS[min(tries, len(_RETRY_SECONDS) - 1)]
            tries += 1
            log.exception("message failed, again soon", extra={"consumer": durable, "sequence": delivery.sequence})
            await asyncio.sleep(wait)
        else:
            return


async def _logged(error: Exception) -> None:
    log.warning("NATS: %s", error)


@contextlib.contextmanager
def _unavailable(what: str) -> Iterator[None]:
    try:
        yield
    except (NatsError, JetStreamError, TimeoutError, ConnectionError) as error:
        raise Unavailable(f"{what}: {error}" if str(error) else what) from error
