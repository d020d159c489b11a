"""The method table: the handlers of both servers, by full gRPC path.

Servers pass a path and a serialized request; handlers receive messages. A handler is a coroutine method
that has the name of an RPC; it returns a message, or bytes when the reply is already serialized.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from services.kit.errors import Code, DeadlineExceeded, Internal, InvalidArgument, ServiceError, Unimplemented
from services.kit.process.telemetry import CALLS
from services.kit.protobuf.readable import MOST_LEVELS, REQUEST_RULE, Check, UnreadableValue, nested_parser
from services.kit.rpc.audited_calls import Audit, AuditedCall
from services.kit.rpc.callers import ANONYMOUS, Caller, Callers
from services.kit.rpc.cpu_pool import MOST_LOOP_BYTES, CpuPool
from services.kit.rpc.fairness import UNREAD_RESPONSES, current_client_connection, set_client_connection
from services.kit.rpc.framing import CompressedMessage
from services.kit.rpc.json_replies import JSON_REPLY_HEADER, JsonTurns, check_json_reply, check_reply_size
from services.kit.rpc.large_requests import MOST_SMALL_BYTES, CheckLarge, LargeRequests

log = logging.getLogger(__name__)

_DENIED, _UNAUTHENTICATED = Code.PERMISSION_DENIED.name, Code.UNAUTHENTICATED.name
_NO_METADATA: Mapping[str, str] = MappingProxyType({})


class Call(NamedTuple):
    """The context of a call: what a handler receives in addition to the message."""

    metadata: Mapping[str, str] = _NO_METADATA
    deadline: float | None = None  # when the caller stops waiting, in the event loop's time
    caller: Caller = ANONYMOUS
    role: str = ""  # by which the caller may make the call; empty without authorisation

    @property
    def principal(self) -> str:
        """The subject of the caller; empty when it is unknown."""
        return self.caller.subject


Handler = Callable[[Message, Call], Awaitable[Message | bytes]]

Authorize = Callable[[str, Message, Caller], str]
"""Returns the role by which a caller may make a request to the method of a path; raises PermissionDenied."""


@dataclass(frozen=True)
class Method:
    """One RPC of one service, bound to its handler."""

    path: str
    name: str
    request: Descriptor
    reply: Descriptor
    handler: Handler
    parse: Callable[[bytes], Message]  # raises UnreadableValue for what is nested too deeply to be read back
    check_values: Check | None  # of requests; None when no value of this type is refused

    def read_request(self, payload: bytes) -> Message:
        """Return the parsed request.

        Raises:
            InvalidArgument: the payload is no such message, or a field has a value that some clients could not read
                once it is stored.
        """
        try:
            request = self.parse(payload)
            if self.check_values is not None:
                self.check_values(request)
        except DecodeError as error:
            raise InvalidArgument(
                f"the request to {self.path.lstrip('/')} cannot be parsed: "
                f"not its message, or nested more than {MOST_LEVELS} levels deep"
            ) from error
        except UnreadableValue as unreadable:
            name = unreadable.fields[0] if unreadable.fields else "request"
            path = f" ({unreadable.path})" if len(unreadable.fields) > 1 else ""
            raise InvalidArgument(f"invalid value for {name}: {unreadable.fault}{path}") from unreadable
        return request


class Table:
    """Every method that a process serves, by full path (`/flyteidl.service.AdminService/GetTask`).

    Args:
        cpu_pool: That of the handlers; large requests are parsed in it.
        check_large: Called with the type and the bytes of each large request before it is parsed, in a thread.
        authorize: Called with each request, for a large one in a thread; None lets every caller do everything.
        audit: Takes calls for the audit log, and is awaited before their response; None for no log.
    """

    def __init__(
        self,
        cpu_pool: CpuPool | None = None,
        check_large: CheckLarge | None = None,
        *,
        authorize: Authorize | None = None,
        audit: Audit | None = None,
    ) -> None:
        self._methods: dict[str, Method] = {}
        self._cpu_pool = cpu_pool or CpuPool()
        self._large_requests = LargeRequests(self._cpu_pool, check_large)
        self._json_turns = JsonTurns()
        self._authorize = authorize
        self._audit = audit
        self._callers: Callers | None = None

    def identify_callers(self, callers: Callers) -> None:
        """Refuse calls that do not come from the gateway, and know who makes the others; before, all are unknown."""
        self._callers = callers

    def caller_of(self, metadata: Mapping[str, str]) -> Caller:
        """Return the caller of a call with these headers; raise Unauthenticated for what must not be served."""
        return ANONYMOUS if self._callers is None else self._callers.caller_of(metadata)

    def bind(self, service: ServiceDescriptor, *objects: object) -> None:
        """Bind the RPCs of `service` that are methods of `objects`; raise ValueError when two have the same one."""
        for descriptor in service.methods:
            having = [candidate for candidate in objects if hasattr(candidate, descriptor.name)]
            if len(having) > 1:
                names = ", ".join(type(each).__name__ for each in having)
                raise ValueError(f"{descriptor.name} is served twice: {names}")
            for each in having:
                path = f"/{service.full_name}/{descriptor.name}"
                request = GetMessageClass(descriptor.input_type)
                handler = getattr(each, descriptor.name)
                self._methods[path] = Method(
                    path,
                    descriptor.name,
                    descriptor.input_type,
                    descriptor.output_type,
                    handler,
                    nested_parser(request),
                    REQUEST_RULE.checker(descriptor.input_type),
                )

    async def serve(self, path: str, payload: bytes | CompressedMessage, call: Call) -> bytes:
        """Return the serialized reply of one call.

        At the deadline the handler is cancelled where it waits. Its transaction is rolled back; what has left the
        process, such as an event in the stream, is processed.

        Raises:
            ServiceError: every failure; an unexpected exception as Internal, without its text.
        """
        started = time.perf_counter()
        code, message = "OK", ""
        set_client_connection(call.metadata)
        audited = None if self._audit is None else AuditedCall(path, self._name(path), call.metadata)
        try:
            if self._callers is not None:
                call = Call(call.metadata, call.deadline, self._callers.caller_of(call.metadata))
            if audited is not None:
                audited.caller = call.caller
            if call.deadline is None:
                return await self._serve(path, payload, call, audited)
            return await self._serve_in_time(path, payload, call, call.deadline, audited)
        except ServiceError as error:
            code, message = error.code.name, error.message
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
            if audited is not None:
                await self._record(audited, code, message)
            traceparent = call.metadata.get("traceparent", "")
            CALLS.record(self._name(path), path, code, time.perf_counter() - started, traceparent)

    def _name(self, path: str) -> str:
        method = self._methods.get(path)
        return "unknown" if method is None else method.name

    async def _record(self, call: AuditedCall, code: str, message: str) -> None:
        """Pass a call to the audit log: one that was denied, and of methods that change something each by a caller.

        Without the gateway's secret nothing was done, and no caller is known.
        """
        if self._audit is None:
            return
        if code == _DENIED or (call.path in self._audit.changes and code != _UNAUTHENTICATED):
            await self._audit.record(call, code, message)

    async def _serve_in_time(
        self,
        path: str,
        payload: bytes | CompressedMessage,
        call: Call,
        deadline: float,
        audited: AuditedCall | None,
    ) -> bytes:
        """Do what `asyncio.timeout_at` does, at less cost: every call of an engine has a deadline, few reach it."""
        task: asyncio.Task[bytes] = asyncio.current_task()  # type: ignore[assignment]  # a coroutine runs in a task
        passed = False

        def end() -> None:
            nonlocal passed
            if not task.cancelling():  # its caller has left just before: `http2.connection` says why once
                passed = True
                task.cancel()

        timer = task.get_loop().call_at(deadline, end)  # get_running_loop makes a system call
        try:
            return await self._serve(path, payload, call, audited)
        except asyncio.CancelledError as error:
            if passed and task.uncancel() == 0:
                raise DeadlineExceeded("the caller's deadline has passed") from error
            raise
        finally:
            timer.cancel()

    async def _serve(
        self, path: str, payload: bytes | CompressedMessage, call: Call, audited: AuditedCall | None
    ) -> bytes:
        method = self._methods.get(path)
        if method is None:
            raise Unimplemented(self._unimplemented(path))
        memory = 0
        small = type(payload) is bytes and len(payload) <= MOST_LOOP_BYTES
        if type(payload) is bytes and len(payload) <= MOST_SMALL_BYTES:
            request = method.read_request(payload)
        else:
            request, memory = await self._large_requests.read(method.request, method.read_request, payload)
        if audited is not None:
            audited.request = request
        try:
            if self._authorize is not None:
                decide = partial(self._authorize, path, request, call.caller)
                call = call._replace(role=decide() if small else await self._cpu_pool.run(decide))
            response = await method.handler(request, call)
            if audited is not None:
                audited.reply = response
            reply = response if isinstance(response, bytes) else response.SerializeToString()
            if JSON_REPLY_HEADER in call.metadata:
                check_reply_size(reply)
                if len(reply) <= MOST_LOOP_BYTES:
                    check_json_reply(method.name, request, method.reply, reply)
                else:
                    await self._check_large_json_reply(method, request, reply)
        finally:
            if memory:
                self._large_requests.release(memory)
        return reply

    async def _check_large_json_reply(self, method: Method, request: Message, reply: bytes) -> None:
        """Check a reply in the CPU pool; meanwhile it counts as unread, so that not many accumulate there."""
        connection = current_client_connection()
        UNREAD_RESPONSES.add(connection, len(reply))
        try:
            parts = await self._cpu_pool.run(check_json_reply, method.name, request, method.reply, reply)
            if parts:
                await self._json_turns.wait(parts)
        finally:
            UNREAD_RESPONSES.add(connection, -len(reply))

    def _unimplemented(self, path: str) -> str:
        """Return the message of gRPC servers in Go: the whole service is unknown, or a method of it."""
        service, _, method = path.lstrip("/").rpartition("/")
        if any(known.startswith(f"/{service}/") for known in self._methods):
            return f"unknown method {method} for service {service}"
        return f"unknown service {service}"
