"""The gRPC health protocol (grpc.health.v1): statuses by name of service, and the reply to a check."""

from collections.abc import Iterable, Mapping

from google.protobuf.message import DecodeError
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from services.kit.errors import InvalidArgument, NotFound

CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING

# The name that flyteadmin registers with the health service in addition to the empty one (gateway.md#other-endpoints).
FLYTEADMIN = "flyteadmin"

Statuses = Mapping[str, HealthCheckResponse.ServingStatus]


def statuses_of(services: Iterable[str], status: HealthCheckResponse.ServingStatus) -> Statuses:
    """Return `status` for each of `services`, and for the server as a whole, which has two names."""
    return dict.fromkeys(("", FLYTEADMIN, *services), status)


def parse_request(message: bytes) -> HealthCheckRequest:
    """Parse a request; raise InvalidArgument for anything else."""
    try:
        return HealthCheckRequest.FromString(message)
    except DecodeError as error:
        raise InvalidArgument("the request is not a HealthCheckRequest") from error


def check_health(statuses: Statuses, message: bytes) -> bytes:
    """Return the reply to a check; raise NotFound for an unknown service, as gRPC's own servers do."""
    status = statuses.get(parse_request(message).service)
    if status is None:
        raise NotFound("unknown service")
    return HealthCheckResponse(status=status).SerializeToString()
