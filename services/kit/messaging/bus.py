"""The NATS connection of one service: service requests, streams and their consumers, plain messages.

Failures of the server or the connection are raised as `Unavailable`; a failure that another service responds with is
raised as the class that it was raised as there.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Self

from google.rpc.status_pb2 import Status
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.js.api import ConsumerConfig
from nats.js.client import JetStreamContext
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NoStreamResponseError

from services.kit.errors import Internal, ServiceError, Unavailable, from_status, to_status
from services.kit.messaging import provisioning, streams
from services.kit.messaging.messages import Reply, Request, ServiceRequest, Stream
from services.kit.messaging.nats_server import NatsServer, TlsFiles, close
from services.kit.messaging.provisioning import StreamProvisioner
from services.kit.messaging.pull_consumer import PullConsumer
from services.kit.messaging.push_consumer import handle_message
from services.kit.messaging.streams import Delivery

__all__ = ["APPEND_TIMEOUT_SECONDS", "Bus", "Delivery", "Stream", "StreamMissing"]

log = logging.getLogger(__name__)

# The payload of a reply with this header is a google.rpc.Status.
_FAILURE_HEADER = "Flyte-Failed"
_MESSAGE_ID = "Nats-Msg-Id"
# A reply subject has at least two tokens after `_INBOX`: `_INBOX.<user>.<id>...`. The deliver subject of a push
# consumer has one, `_INBOX.<durable>` (`streams.push_consumer_config`). So no requester can make this service publish
# to a consumer.
_REQUEST_INBOX = re.compile(r"_INBOX(\.[^.*>]+){2,}")
# Pause between retries of a request without responders: an owner that restarts is back within a second or two.
_REQUEST_RETRY_SECONDS = 0.05
# An append that is not acknowledged by now was lost, as when a server is killed; sending it again with the same id is
# harmless. Much shorter than the timeout of callers that wait for it.
APPEND_TIMEOUT_SECONDS = 1.0
# For other JetStream requests.
_API_TIMEOUT_SECONDS = 5.0
# How long served requests may take to finish at the end; a reply takes milliseconds.
_SERVING_END_SECONDS = 1.0

_NO_FILES = TlsFiles()


class StreamMissing(Unavailable):
    """The stream was deleted, or lost by its server."""


class Bus:
    """One connection to NATS. It reconnects by itself until it is closed."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name
        self._jetstream: JetStreamContext = client.jetstream(timeout=_API_TIMEOUT_SECONDS)
        self._provisioner = StreamProvisioner(self._jetstream)
        self._stream_failure = ""  # of the last check of declared streams, empty without one
        self._request_subscriptions: list[Subscription] = []
        self._serving_tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def connect(cls, url: str, name: str, tls: TlsFiles = _NO_FILES) -> Self:
        """Connect as `name`, which is also the queue group of the requests that it serves; raise Unavailable."""
        server = NatsServer.parse(url)
        try:
            return cls(await server.connect(name, tls, _log_error), name)
        except (NatsError, OSError, TimeoutError) as error:
            raise Unavailable(f"NATS cannot be reached at {server}") from error

    async def close(self) -> None:
        """Finish received service requests, stop consuming, send what is buffered, then disconnect."""
        await self._finish_serving()
        with contextlib.suppress(NatsError):
            await self._client.drain()
        if not self._client.is_closed:  # without a connection it drains nothing, and would go on reconnecting
            await close(self._client)

    async def _finish_serving(self) -> None:
        """Receive no further service requests; those received may finish for `_SERVING_END_SECONDS`."""
        if self.connected:  # otherwise no reply can be sent
            with contextlib.suppress(NatsError, TimeoutError):
                async with asyncio.timeout(_SERVING_END_SECONDS):
                    for subscription in self._request_subscriptions:
                        await subscription.drain()  # type: ignore[no-untyped-call]  # nats-py leaves it unannotated
            if self._serving_tasks:
                await asyncio.wait(self._serving_tasks, timeout=_SERVING_END_SECONDS)
        for task in self._serving_tasks:
            task.cancel()

    @property
    def connected(self) -> bool:
        """Whether the server can be reached now."""
        return self._client.is_connected

    async def request(self, service_request: ServiceRequest[Request, Reply], request: Request) -> Reply:
        """Return the reply of the service that serves `service_request`.

        Raises:
            ServiceError: the failure that it responded with.
            Unavailable: there is no reply within the deadline of the service request.
        """
        return service_request.reply.FromString(await self.request_bytes(service_request, request))

    async def request_bytes(self, service_request: ServiceRequest[Request, Reply], request: Request) -> bytes:
        """Return the serialized reply of the service, for replies that may be large. Raise as `request`."""
        clock = asyncio.get_running_loop().time
        end = clock() + service_request.deadline
        payload = request.SerializeToString()
        while True:
            try:
                message = await self._send_request(service_request.subject, payload, max(end - clock(), 0.001))
                break
            except NoRespondersError as error:
                if clock() + _REQUEST_RETRY_SECONDS > end:
                    raise Unavailable(f"nobody answers {service_request.subject}") from error
                await asyncio.sleep(_REQUEST_RETRY_SECONDS)
            except (NatsError, TimeoutError) as error:
                raise Unavailable(f"no answer from {service_request.subject} in time") from error
        if message.headers and _FAILURE_HEADER in message.headers:
            raise from_status(Status.FromString(message.data))
        return message.data

    async def _send_request(self, subject: str, payload: bytes, seconds: float) -> Msg:
        if not self.connected:
            # The client would send the request after reconnecting, when its inbox is no longer read.
            raise NoRespondersError
        return await self._client.request(subject, payload, timeout=seconds)

    async def serve(
        self, service_request: ServiceRequest[Request, Reply], handler: Callable[[Request], Awaitable[Reply | bytes]]
    ) -> None:
        """Serve `service_request` by `handler` from now on; each request by one replica, several concurrently.

        Args:
            service_request: the kind of request.
            handler: returns the reply, or its serialized bytes.
        """

        async def respond(message: Msg) -> None:
            try:
                reply = await handler(service_request.request.FromString(message.data))
                data = reply if isinstance(reply, bytes) else reply.SerializeToString()
                await self._client.publish(message.reply, data)
            except ServiceError as error:
                await self._respond_failure(message, error)
            except Exception:
                log.exception("service request failed", extra={"subject": service_request.subject})
                await self._respond_failure(message, Internal(f"{service_request.subject} failed"))

        async def start(message: Msg) -> None:
            # NATS does not check the reply subject, which the requester itself may not be allowed to publish to.
            if _REQUEST_INBOX.fullmatch(message.reply):
                task = asyncio.create_task(respond(message))
                self._serving_tasks.add(task)
                task.add_done_callback(self._serving_tasks.discard)
            else:
                log.warning(
                    "a service request names a foreign reply subject", extra={"subject": service_request.subject}
                )

        subscription = await self._client.subscribe(service_request.subject, queue=self._name, cb=start)
        self._request_subscriptions.append(subscription)

    async def _respond_failure(self, message: Msg, error: ServiceError) -> None:
        await self._client.publish(message.reply, to_status(error).SerializeToString(), headers={_FAILURE_HEADER: "1"})

    async def declare_stream(
        self,
        stream: Stream,
        consumers: Sequence[ConsumerConfig] = (),
        *,
        own: bool = True,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        """Create the stream and these consumers when missing; safe to call from every replica.

        Consumers that are gone later are created again, the stream only if `own`.

        Args:
            stream: the stream.
            consumers: durable consumers of the stream.
            own: this service owns the stream: it updates the configuration and restores the stream.
            on_lost: called whenever messages may be lost later: the stream was missing, or it has interest retention
                and a consumer was.
        """
        with _unavailable("the stream cannot be made ready"):
            await self._provisioner.declare_stream(stream, consumers, own=own, on_lost=on_lost)

    async def create_missing_streams(self) -> None:
        """Create declared streams and consumers that are missing; raise Unavailable when that fails."""
        with _unavailable("a stream cannot be made again"):
            await self._provisioner.create_missing()

    async def check_streams_periodically(self) -> None:
        """Check declared streams and consumers periodically, and create missing ones, until cancelled."""
        while True:
            await asyncio.sleep(provisioning.CHECK_SECONDS)
            try:
                if self.connected:
                    await self.create_missing_streams()
                self._stream_failure = ""
            except Exception as error:  # noqa: BLE001 - readiness reports it; the loop continues
                if not self._stream_failure:
                    log.warning("checking streams failed, retrying: %r", error)
                self._stream_failure = str(error)

    async def check(self) -> None:
        """Raise Unavailable unless the server can be reached and has the declared streams and consumers."""
        if not self.connected:
            raise Unavailable("NATS cannot be reached")
        if self._stream_failure:
            raise Unavailable(self._stream_failure)

    async def replace_work_queue_stream(self, stream: Stream) -> None:
        """Replace a stream with work-queue retention, from a former release, by one with interest retention.

        Raises:
            FailedPrecondition: the stream has messages.
        """
        with _unavailable("the stream cannot be made anew"):
            await streams.replace_work_queue_stream(self._jetstream, stream)

    async def delete_stream(self, name: str) -> None:
        """Delete a stream of a former release if it exists."""
        with _unavailable("the former stream cannot be deleted"):
            await streams.delete_stream(self._jetstream, name)

    async def delete_consumer(self, stream: str, durable: str) -> None:
        """Delete a durable consumer of a former release if it exists."""
        with _unavailable("the former consumer cannot be deleted"):
            await streams.delete_consumer(self._jetstream, stream, durable)

    async def oldest_message_time(self, stream: Stream) -> datetime | None:
        """Return when the oldest message of the stream was appended; None when it is empty."""
        with _unavailable("the stream cannot be asked"):
            return await streams.oldest_message_time(self._client, stream)

    async def append(
        self, subject: str, payload: bytes, message_id: str, headers: Mapping[str, str] | None = None
    ) -> int:
        """Append a message to the stream of `subject`; return its sequence once it is stored.

        Of messages with the same `message_id` within two minutes the stream stores one.

        Raises:
            StreamMissing: no stream has this subject.
            Unavailable: the append is not acknowledged.
        """
        if not self.connected:
            # The client would buffer the message and send it after reconnecting, although this call has failed.
            raise Unavailable("NATS cannot be reached")
        all_headers = {**(headers or {}), _MESSAGE_ID: message_id}
        with _unavailable("the stream does not take messages"):
            try:
                ack = await self._jetstream.publish(
                    subject, payload, timeout=APPEND_TIMEOUT_SECONDS, headers=all_headers
                )
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
        """Pass each message on `subject` to `handler`, strictly one after the other across all replicas.

        A message is acknowledged when the handler returns. When it raises, the same message is handled again after a
        growing pause, and later messages wait: order matters more than progress. Replicas share the durable consumer;
        when one dies another handles its message.
        """

        async def handle(message: Msg) -> None:
            await handle_message(message, handler, durable)

        config = streams.push_consumer_config(subject, durable)
        with _unavailable("the consumer cannot be made ready"):
            await self._provisioner.declare_consumer(stream, config)
            await self._jetstream.subscribe(
                subject, queue=durable, durable=durable, stream=stream.name, config=config, manual_ack=True, cb=handle
            )

    async def pull_consumer(self, stream: Stream, subject: str, durable: str) -> PullConsumer:
        """Return an open consumer that fetches messages on `subject` in bursts; replicas share the messages."""
        with _unavailable("the consumer cannot be made ready"):
            await self._provisioner.declare_consumer(stream, streams.pull_consumer_config(subject, durable))
            consumer = PullConsumer(self._client, stream.name, durable)
            await consumer.open()
        return consumer

    async def subscribe(self, subject: str, handler: Callable[[bytes], Awaitable[None]]) -> None:
        """Pass messages on `subject`, which may have wildcards, to `handler`, one after the other."""

        async def receive(message: Msg) -> None:
            await handler(message.data)

        with _unavailable("NATS cannot be reached"):
            await self._client.subscribe(subject, cb=receive)

    async def receive(
        self, subject: str, handler: Callable[[bytes, Mapping[str, str]], Awaitable[None]]
    ) -> Callable[[], Awaitable[None]]:
        """Pass payload and headers of messages on `subject` to `handler`, one after the other.

        Returns:
            Ends that, when it is called.
        """

        async def receive(message: Msg) -> None:
            await handler(message.data, message.headers or {})

        with _unavailable("NATS cannot be reached"):
            subscription = await self._client.subscribe(subject, cb=receive)

        async def end() -> None:
            with contextlib.suppress(NatsError):
                await subscription.unsubscribe()

        return end

    async def backlog(self, stream: Stream, durable: str) -> int:
        """Return how many messages of the stream a durable consumer has not acknowledged; raise Unavailable."""
        with _unavailable("the consumer cannot be looked up"):
            info = await self._jetstream.consumer_info(stream.name, durable)
        return (info.num_pending or 0) + (info.num_ack_pending or 0)

    async def send(
        self, subject: str, payload: bytes, headers: Mapping[str, str] | None = None, *, reply: str = ""
    ) -> None:
        """Send to a subject; raise Unavailable without a connection.

        With `reply`, the server sends a message without content there when nothing subscribes to the subject.
        """
        if not self.connected:
            # The client would buffer the message and send it after reconnecting.
            raise Unavailable("NATS cannot be reached")
        with _unavailable("NATS cannot be reached"):
            await self._client.publish(subject, payload, reply, headers=dict(headers) if headers else None)


async def _log_error(error: Exception) -> None:
    log.warning("NATS: %s", error)


@contextlib.contextmanager
def _unavailable(what: str) -> Iterator[None]:
    try:
        yield
    except (NatsError, JetStreamError, TimeoutError, ConnectionError) as error:
        raise Unavailable(f"{what}: {error}" if str(error) else what) from error
