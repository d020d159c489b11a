"""A small gRPC service for tests of the fronts: one method, of messages with one text."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from services.kit.rpc.table import Call, Table


def _kitchen() -> Any:
    text = DescriptorProto(name="Text")
    text.field.add(name="text", number=1, label=1, type=9)
    file = FileDescriptorProto(name="kitchen.proto", package="test", syntax="proto3", message_type=[text])
    service = file.service.add(name="Kitchen")
    service.method.add(name="Cook", input_type=".test.Text", output_type=".test.Text")
    pool = DescriptorPool()
    pool.Add(file)
    return pool.FindServiceByName("test.Kitchen")


KITCHEN = _kitchen()
TEXT: Any = GetMessageClass(KITCHEN.methods_by_name["Cook"].input_type)
COOK = "/test.Kitchen/Cook"


@dataclass
class ToyService:
    """Answers with `answer`; keeps the calls."""

    answer: Callable[[Any], Awaitable[Any]]
    calls: list[Call] = field(default_factory=list)

    async def Cook(self, request: Message, call: Call) -> Any:
        """The one method."""
        self.calls.append(call)
        return await self.answer(request)

    @property
    def table(self) -> Table:
        """What a front is given."""
        table = Table()
        table.bind(KITCHEN, self)
        return table


async def echo(request: Any) -> Any:
    """Answer with what was asked."""
    return TEXT(text=request.text)


def failing(error: Exception) -> Callable[[Any], Awaitable[Any]]:
    """Answer with an error."""

    async def fail(_: Any) -> Any:
        raise error

    return fail


def frame(message: bytes, *, compressed: bool = False, length: int | None = None) -> bytes:
    """A message as it travels, its length told truly or not."""
    return bytes([compressed]) + (len(message) if length is None else length).to_bytes(4, "big") + message
