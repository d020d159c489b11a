"""A toy gRPC service for tests of the servers: one method, whose messages have one text."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from services.kit.rpc.callers import Callers
from services.kit.rpc.table import Call, Table


def _toy_service() -> Any:
    text = DescriptorProto(name="Text")
    text.field.add(name="text", number=1, label=1, type=9)
    file = FileDescriptorProto(name="toy.proto", package="test", syntax="proto3", message_type=[text])
    service = file.service.add(name="Toy")
    service.method.add(name="Echo", input_type=".test.Text", output_type=".test.Text")
    pool = DescriptorPool()
    pool.Add(file)
    return pool.FindServiceByName("test.Toy")


SERVICE = _toy_service()
TEXT: Any = GetMessageClass(SERVICE.methods_by_name["Echo"].input_type)
METHOD_PATH = "/test.Toy/Echo"


@dataclass
class ToyService:
    """Responds by `handle`, and records the calls."""

    handle: Callable[[Any], Awaitable[Any]]
    calls: list[Call] = field(default_factory=list)
    callers: Callers | None = None

    async def Echo(self, request: Message, call: Call) -> Any:
        """Serve the only method."""
        self.calls.append(call)
        return await self.handle(request)

    @property
    def table(self) -> Table:
        """The method table of the service."""
        table = Table()
        table.bind(SERVICE, self)
        if self.callers is not None:
            table.identify_callers(self.callers)
        return table


async def echo(request: Any) -> Any:
    """Return the text of the request."""
    return TEXT(text=request.text)


def failing(error: Exception) -> Callable[[Any], Awaitable[Any]]:
    """Return a handler that raises `error`."""

    async def fail(_: Any) -> Any:
        raise error

    return fail


def frame(message: bytes, *, compressed: bool = False, length: int | None = None) -> bytes:
    """Return the gRPC frame of a message, with its own length or another one."""
    return bytes([compressed]) + (len(message) if length is None else length).to_bytes(4, "big") + message
