"""Checks of requests about signals (executions.md#signalservice)."""

from flyteidl.admin.signal_pb2 import SignalGetOrCreateRequest, SignalListRequest, SignalSetRequest
from flyteidl.core.identifier_pb2 import SignalIdentifier
from flyteidl.core.literals_pb2 import Literal
from flyteidl.core.types_pb2 import LiteralType

from services.contracts.casting import Comparison, TypesTooLarge
from services.contracts.identifiers import MAX_FIELD_BYTES, check_execution_identifier, identifier_text
from services.contracts.literals import type_text
from services.contracts.values import UntypedValue, type_mismatch
from services.kit.errors import InvalidArgument

# A value is usually entered by a user. Lists contain all values of an execution, and engines poll them. Larger values
# belong in the object store.
MAX_VALUE_BYTES = 256 * 1024
# The type of a gate has a few bytes; that of a dataclass has a JSON schema.
MAX_TYPE_BYTES = 256 * 1024
# Steps for comparing a value's type: some ten milliseconds; usual values need a handful.
_MOST_STEPS = 10_000


def check_get_or_create(request: SignalGetOrCreateRequest) -> None:
    """Raise InvalidArgument unless the request has a complete id and a type."""
    _check_identifier(request.id if request.HasField("id") else None)
    if not request.HasField("type"):
        raise InvalidArgument("missing type")
    _check_size("type", request.type, MAX_TYPE_BYTES)


def check_list(request: SignalListRequest) -> None:
    """Raise InvalidArgument unless the request has a complete execution id."""
    execution = request.workflow_execution_id if request.HasField("workflow_execution_id") else None
    check_execution_identifier(execution, "execution_id")


def check_set(request: SignalSetRequest) -> None:
    """Raise InvalidArgument unless the request has a complete id and a value."""
    _check_identifier(request.id if request.HasField("id") else None)
    if not request.HasField("value"):
        raise InvalidArgument("missing value")
    _check_size("value", request.value, MAX_VALUE_BYTES)


def missing(identifier: SignalIdentifier) -> InvalidArgument:
    """Return the error for a signal that does not exist; not NOT_FOUND, as in flyteadmin."""
    return InvalidArgument(f"failed to validate that signal [{signal_text(identifier)}] exists")


def check_fits(value: Literal, declared: LiteralType) -> None:
    """Raise InvalidArgument unless an input of the signal's type could have the value.

    flyteadmin compares in the other direction and so refuses values for gates of optional and union types.
    """
    try:
        instead = type_mismatch(value, declared, Comparison(_MOST_STEPS))
    except TypesTooLarge as error:
        raise InvalidArgument("invalid value for value: its type is too large to compare") from error
    except UntypedValue as error:
        raise InvalidArgument("invalid value for value: its type cannot be told") from error
    if instead is not None:
        raise InvalidArgument(
            f"requested signal value [{instead.text}] is not castable to existing signal type [{type_text(declared)}]"
        )


def signal_text(identifier: SignalIdentifier) -> str:
    """Return the text of a signal's identifier in messages."""
    return f'signal_id:"{identifier.signal_id}" execution_id:{{{identifier_text(identifier.execution_id)}}}'


def _check_identifier(identifier: SignalIdentifier | None) -> None:
    if identifier is None:
        raise InvalidArgument("missing id")
    if not identifier.HasField("execution_id"):
        raise InvalidArgument("missing execution_id")
    if not identifier.signal_id:
        raise InvalidArgument("missing signal_id")
    if len(identifier.signal_id.encode()) > MAX_FIELD_BYTES:
        raise InvalidArgument(f"size of signal_id exceeded length {MAX_FIELD_BYTES}")
    check_execution_identifier(identifier.execution_id)


def _check_size(field: str, message: Literal | LiteralType, most: int) -> None:
    if message.ByteSize() > most:
        raise InvalidArgument(f"size of {field} exceeded {most} bytes")
