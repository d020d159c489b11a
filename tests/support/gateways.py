"""A real Envoy in front of small real servers, for tests of the gateway by REST and gRPC clients."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from gateway import routes
from gateway.bootstrap import Settings
from gateway.clusters import Address
from services.kit.rpc.callers import Callers
from tests.support.echo_services import LARGEST, METHODS, Call, EchoServices, Failure, HttpObjects
from tests.support.envoy import running_gateway
from tests.support.parts import free_port

BINARY = "application/octet-stream"
SNAKE = {"accept": "application/json"}
CAMEL = {"accept": "application/json, text/plain, */*"}  # what browsers' axios sends
BIN = {"accept": BINARY}
CONSOLE = "https://console.example"  # the origin whose pages may call

ADMIN = "flyteidl.service.AdminService"
MIB = 1 << 20
_CHANNEL_OPTIONS = [("grpc.max_metadata_size", MIB), ("grpc.max_receive_message_length", -1)]


@dataclass
class Gateway:
    """A gateway and the servers behind it. The executions service runs twice."""

    rest: httpx.AsyncClient
    channel: grpc.aio.Channel
    """Receives more metadata than clients do by default."""
    address: str
    """host:port."""
    services: dict[str, EchoServices]
    second_executions: EchoServices
    objects: HttpObjects

    async def call(self, method: str, request: Message, **options: Any) -> Any:
        """Call a method by its own name over gRPC."""
        path = next(path for path in METHODS if path.endswith(f"/{method}"))
        reply_class = GetMessageClass(METHODS[path].output_type)
        rpc = self.channel.unary_unary(path, type(request).SerializeToString, reply_class.FromString)
        return await rpc(request, timeout=options.pop("timeout", 10), **options)

    def newest_call(self, owner: str) -> Call:
        """Return the newest call of `owner`; of executions that of the first server with a call."""
        calls = self.services[owner].calls or self.second_executions.calls
        return calls[-1]


@contextlib.asynccontextmanager
async def echoing_gateway(
    folder: Path, *, grpcio: bool = False, callers: Callers | None = None, **more: Any
) -> AsyncIterator[Gateway]:
    """Run a gateway in front of HTTP/2 servers, or of grpcio servers, which can return what no service does.

    Args:
        folder: where its files are.
        grpcio: whether they are grpcio servers.
        callers: how the HTTP/2 servers know who calls; none: they do not.
        more: further settings of the gateway.
    """
    services = {owner: EchoServices(callers) for owner in routes.load().owners}
    second = EchoServices(callers)
    objects = HttpObjects()
    async with contextlib.AsyncExitStack() as serving:
        for service in (*services.values(), second):
            await serving.enter_async_context(service.serving())
        objects_port = await serving.enter_async_context(objects.serving())
        servers = {owner: [service] for owner, service in services.items()}
        servers["executions"].append(second)
        port = free_port()
        settings = Settings(
            listen=Address("127.0.0.1", port),
            admin=Address("127.0.0.1", free_port()),
            upstreams={
                owner: [each.grpcio_address if grpcio else each.address for each in of_owner]
                for owner, of_owner in servers.items()
            },
            reflection=[services["registry"].grpcio_address],
            objects=[Address("127.0.0.1", objects_port)],
            cors_origins=[CONSOLE],
            hosts=["localhost"],
            max_message_bytes=LARGEST,
            **more,
        )
        async with (
            running_gateway(folder, settings) as rest,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=_CHANNEL_OPTIONS) as channel,
        ):
            yield Gateway(rest, channel, f"127.0.0.1:{port}", services, second, objects)


def value_of(message: Any, field: str) -> Any:
    """Return the value at a path of fields with dots between."""
    for name in field.split("."):
        message = getattr(message, name)
    return message


def failing(failure: Failure) -> Any:
    """Return a handler of an echo service that fails."""

    def fail(_: Message) -> Message:
        raise failure

    return fail
