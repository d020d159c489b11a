"""One table of methods for both servers: full gRPC path to a handler's method, bytes in and bytes out.

Handlers see messages; a server sees `(path, bytes)`. A handler is any object whose coroutine methods carry RPC names;
it returns a message, or bytes when the answer is already serialized.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from services.kit.errors import Code, DeadlineExceeded, Internal, InvalidArgument, ServiceError, Unimplemented
from services.kit.process.telemetry import CALLS
from services.kit.protobuf.readable import MOST_LEVELS, WRITTEN, Check, Unreadable, depth_check
from services.kit.rpc.cpu_pool import CpuPool
from services.kit.rpc.fairness import set_client_connection
from services.kit.rpc.json_replies import JSON_REPLY_HEADER, check_reply_size, check_shown

log = logging.getLogger(__name__)

# Of a request that is read, or a reply that is checked, on the event loop, a millisecond or so; more is read beside it.
_CHECKED_AT_ONCE_BYTES = 32 * 1024


_NO_METADATA: Mapping[str, str] = MappingProxyType({})


class Call(NamedTuple):
    """What a handler may know of a call besides its message."""

    principal: str = ""  # who calls; empty without authentication
    metadata: Mapping[str, str] = _NO_METADATA
    deadline: float | None = None  # when the caller stops waiting, as the event loop's time


Handler = Callable[[Message, Call], Awaitable[Message | bytes]]


@dataclass(frozen=True)
class Method:
    """One RPC of one service, bound to its handler."""

    path: str
    name: str
    request: type[Message]
    reply: Descriptor
    handler: Handler
    check_depth: Callable[[bytes], None]  # of serialized requests
    check_values: Check | None  # of requests; None when this type can hold no value that is refused

    def read_request(self, payload: bytes) -> Message:
        """Parse a request.

        Raises InvalidArgument for what is no such message, and for what not every client could read once it is stored,
        naming its field.
        """
        request = self.request()
        try:
            request.ParseFromString(payload)
        except DecodeError as error:
            said = f"the request to {self.path.lstrip('/')} cannot be parsed"
            raise InvalidArgument(f"{said}: not its message, or nested more than {MOST_LEVELS} levels deep") from error
        try:
            self.check_depth(payload)
            if self.check_values is not None:
                self.check_values(request)
        except Unreadable as unreadable:
            name = unreadable.fields[0] if unreadable.fields else "request"
            where = f" ({unreadable.path})" if len(unreadable.fields) > 1 else ""
            raise InvalidArgument(f"invalid value for {name}: {unreadable.fault}{where}") from unreadable
        return request

    def check_reply(self, request: Message, reply: bytes) -> None:
        """Raise Internal for a reply that has no form as JSON, naming what cannot be shown."""
        check_shown(self.name, request, self.reply, reply)


class Table:
    """Every method that a process serves, by full path (`/flyteidl.service.AdminService/GetTask`).

    Large requests are read in the threads of `beside`, which are those of the whole process.
    """

    def __init__(self, cpu_pool: CpuPool | None = None) -> None:
        self._methods: dict[str, Method] = {}
        self._cpu_pool = cpu_pool or CpuPool()

    def bind(self, service: ServiceDescriptor, *handlers: object) -> None:
        """Bind the methods of `service` that `handlers` have; raises ValueError when two have the same one."""
        for descriptor in service.methods:
            owners = [handler for handler in handlers if hasattr(handler, descriptor.name)]
            if len(owners) > 1:
                names = ", ".join(type(owner).__name__ for owner in owners)
                raise ValueError(f"{descriptor.name} is served twice: {names}")
            for owner in owners:
                path = f"/{service.full_name}/{descriptor.name}"
                request = GetMessageClass(descriptor.input_type)
                handler = getattr(owner, descriptor.name)
                self._methods[path] = Method(
                    path,
                    descriptor.name,
                    request,
                    descriptor.output_type,
                    handler,
                    depth_check(request),
                    WRITTEN.checker(descriptor.input_type),
                )

    async def serve(self, path: str, payload: bytes, call: Call) -> bytes:
        """Answer one call within its deadline; every failure leaves as a ServiceError, an unknown one without its text.

        At the deadline the handler is cancelled where it waits: a transaction is rolled back, while what has left the
        process (an event on file) goes its way.
        """
        started = time.perf_counter()
        code = "OK"
        set_client_connection(call.metadata)
        try:
            if call.deadline is None:
                return await self._serve(path, payload, call)
            return await self._serve_in_time(path, payload, call, call.deadline)
        except ServiceError as error:
            code = error.code.name
            raise
        except asyncio.CancelledError:
            code = Code.CANCELLED.name
            raise
        except Exception as error:
            code = Code.INTERNAL.name
            reference = uuid.uuid4().hex
            log.exception("call failed", extra={"method": path, "error_id": reference})
            raise Internal(f"internal error {reference}") from error
        finally:
            method = self._methods.get(path)
            name = "unknown" if method is None else method.name
            CALLS.answered(name, path, code, time.perf_counter() - started, call.metadata.get("traceparent", ""))

    async def _serve_in_time(self, path: str, payload: bytes, call: Call, deadline: float) -> bytes:
        """`asyncio.timeout_at` with less around it: every call of an engine has a deadline, hardly one meets it."""
        task: asyncio.Task[bytes] = asyncio.current_task()  # type: ignore[assignment]  # a coroutine runs in a task
        passed = False

        def end() -> None:
            nonlocal passed
            passed = True
            task.cancel()

        timer = task.get_loop().call_at(deadline, end)  # asking for the running loop is a system call
        try:
            return await self._serve(path, payload, call)
        except asyncio.CancelledError as error:
            if passed and task.uncancel() == 0:
                raise DeadlineExceeded("the caller's deadline has passed") from error
            raise
        finally:
            timer.cancel()

    async def _serve(self, path: str, payload: bytes, call: Call) -> bytes:
        method = self._methods.get(path)
        if method is None:
            raise Unimplemented(self._unserved(path))
        if len(payload) <= _CHECKED_AT_ONCE_BYTES:
            request = method.read_request(payload)
        else:
            request = await self._cpu_pool.run(method.read_request, payload)
        answered = await method.handler(request, call)
        reply = answered if isinstance(answered, bytes) else answered.SerializeToString()
        if JSON_REPLY_HEADER in call.metadata:
            check_reply_size(reply)
            if len(reply) <= _CHECKED_AT_ONCE_BYTES:
                method.check_reply(request, reply)
            else:
                await self._cpu_pool.run(method.check_reply, request, reply)
        return reply

    def _unserved(self, path: str) -> str:
        """Say what is not there, as servers in Go do: the whole service, or a method of it."""
        service, _, method = path.lstrip("/").rpartition("/")
        if any(known.startswith(f"/{service}/") for known in self._methods):
            return f"unknown method {method} for service {service}"
        return f"unknown service {service}"
