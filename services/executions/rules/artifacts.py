"""One literal of the data of a flyte:// URL (executions.md#getdata)."""

from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.service.dataproxy_pb2 import GetDataResponse

from services.kit.errors import InvalidArgument


def named(name: str, url: str, content: bytes) -> GetDataResponse:
    """Return a response with the literal `name` of `content`, a serialized LiteralMap.

    Raises:
        InvalidArgument: There is no such literal.
    """
    literals = LiteralMap.FromString(content).literals
    if name not in literals:
        raise InvalidArgument(f"name [{name}] not found in the data of [{url}]")
    return GetDataResponse(literal=literals[name])
