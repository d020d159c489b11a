"""What may be asked of a signal and what it may be set to (executions.md section 10)."""

from flyteidl.admin.signal_pb2 import SignalGetOrCreateRequest, SignalListRequest, SignalSetRequest
from flyteidl.core.identifier_pb2 import SignalIdentifier
from flyteidl.core.literals_pb2 import Literal
from flyteidl.core.types_pb2 import LiteralType

from services.contracts.casting import Comparison, TypesTooLarge
from services.contracts.identifiers import MAX_FIELD_BYTES, check_execution_identifier, identifier_text
from services.contracts.literals import type_text
from services.contracts.values import Untyped, type_mismatch
from services.kit.errors import InvalidArgument

# A value is an answer of a person or a small number, is listed with all others of its execution and polled by engines;
# larger ones belong into the object store.
MAX_VALUE_BYTES = 256 * 1024
# A gate's type is a few bytes; those of dataclasses carry a JSON schema.
MAX_TYPE_BYTES = 256 * 1024
# Of comparing a value's type, some ten milliseconds; a person's answer takes a handful.
_MOST_STEPS = 10_000


def check_wanted(request: SignalGetOrCreateRequest) -> None:
    """Raise InvalidArgument unless the signal is named whole and has a type."""
    _check_identifier(request.id if request.HasField("id") else None)
    if not request.HasField("type"):
        raise InvalidArgument("missing type")
    _check_size("type", request.type, MAX_TYPE_BYTES)


def check_listed(request: SignalListRequest) -> None:
    """Raise InvalidArgument unless the execution is named whole."""
    execution = request.workflow_execution_id if request.HasField("workflow_execution_id") else None
    check_execution_identifier(execution, "execution_id")


def check_set(request: SignalSetRequest) -> None:
    """Raise InvalidArgument unless the signal is named whole and has a value."""
    _check_identifier(request.id if request.HasField("id") else None)
    if not request.HasField("value"):
        raise InvalidArgument("missing value")
    _check_size("value", request.value, MAX_VALUE_BYTES)


def unknown(identifier: SignalIdentifier) -> InvalidArgument:
    """Return the answer to setting a signal that no gate has asked for: no NOT_FOUND, as in the reference."""
    return InvalidArgument(f"failed to validate that signal [{signal_text(identifier)}] exists")


def check_fits(value: Literal, declared: LiteralType) -> None:
    """Raise InvalidArgument unless the value may be given where the signal's type is declared, as an input would be.

    The reference asks the other way round and so refuses answers to gates of optional and union types.
    """
    try:
        instead = type_mismatch(value, declared, Comparison(_MOST_STEPS))
    except TypesTooLarge as error:
        raise InvalidArgument("invalid value for value: its type is too large to compare") from error
    except Untyped as error:
        raise InvalidArgument("invalid value for value: its type cannot be told") from error
    if instead is not None:
        raise InvalidArgument(
            f"requested signal value [{instead.text}] is not castable to existing signal type [{type_text(declared)}]"
        )


def signal_text(identifier: SignalIdentifier) -> str:
    """Write a signal's identifier for a message."""
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
