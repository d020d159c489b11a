"""Reflection and health through the gateway: every service with its methods, and the health of each by its name."""

import grpc
import pytest
from flyteidl.service.admin_pb2 import DESCRIPTOR as ADMIN
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from gateway import routes
from tests.support.refusals import refused
from tests.support.sandbox import Sandbox

FLYTE = {f"flyteidl.service.{name}Service" for name in ("Admin", "Signal", "DataProxy", "AuthMetadata", "Identity")}
OTHERS = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
SERVING = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


def test_reflection_lists_all_services_and_describes_their_methods(sandbox: Sandbox) -> None:
    with grpc.insecure_channel(sandbox.target) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert set(database.get_services()) == FLYTE | OTHERS
        pool = DescriptorPool(database)
        described = {
            f"{name}/{method.name}"
            for name in FLYTE
            for method in pool.FindServiceByName(name).methods_by_name.values()
        }
    assert described == {method.name for method in routes.load().methods}


async def test_second_version_of_reflection_returns_the_same(sandbox: Sandbox) -> None:
    async with sandbox.channel() as channel:
        reflect = channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            ServerReflectionRequest.SerializeToString,
            ServerReflectionResponse.FromString,
        )
        requests = [
            ServerReflectionRequest(list_services=""),
            ServerReflectionRequest(file_containing_symbol="flyteidl.service.AdminService"),
        ]
        listed, file = [response async for response in reflect(iter(requests))]
    assert {service.name for service in listed.list_services_response.service} == FLYTE | OTHERS
    files = map(FileDescriptorProto.FromString, file.file_descriptor_response.file_descriptor_proto)
    assert ADMIN.name in {each.name for each in files}


@pytest.mark.parametrize("name", ["", "flyteadmin", *sorted(FLYTE)])
async def test_health_is_serving_for_the_name_of_a_service(sandbox: Sandbox, name: str) -> None:
    async with sandbox.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=name)
        assert await health.Check(request) == SERVING
        watching = health.Watch(request)
        assert await watching.read() == SERVING
        watching.cancel()


async def test_health_of_an_unknown_service_is_not_found(sandbox: Sandbox) -> None:
    async with sandbox.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        nowhere = health_pb2.HealthCheckRequest(service="flyteidl.service.Nope")
        await refused(health.Check(nowhere), grpc.StatusCode.NOT_FOUND, "unknown service")
