"""Health checks as gRPC has them (grpc.health.v1), by the name of a service."""

from collections.abc import Iterable, Mapping

from google.protobuf.message import DecodeError
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from services.kit.errors import InvalidArgument, NotFound

CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING

# What the reference registers with the health service beside the empty name (gateway.md A.9).
REFERENCE_NAME = "flyteadmin"

States = Mapping[str, HealthCheckResponse.ServingStatus]


def states(services: Iterable[str], state: HealthCheckResponse.ServingStatus) -> States:
    """Return `state` for each of `services`, and for the server as a whole, which has two names."""
    return dict.fromkeys(("", REFERENCE_NAME, *services), state)


def asked(message: bytes) -> HealthCheckRequest:
    """Read a request; raises InvalidArgument."""
    try:
        return HealthCheckRequest.FromString(message)
    except DecodeError as error:
        raise InvalidArgument("the request is not a HealthCheckRequest") from error


def health(known: States, message: bytes) -> bytes:
    """Answer a check; raises NotFound for a service that is not known, as gRPC's own servers do."""
    state = known.get(asked(message).service)
    if state is None:
        raise NotFound("unknown service")
    return HealthCheckResponse(status=state).SerializeToString()
