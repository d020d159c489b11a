"""What the method table reports of a call to the audit log."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.message import Message

from services.kit.rpc.callers import ANONYMOUS, Caller


class AuditedCall:
    """A call, from its begin to its outcome."""

    __slots__ = ("at", "caller", "metadata", "method", "path", "reply", "request")

    def __init__(self, path: str, method: str, metadata: Mapping[str, str]) -> None:
        self.at = datetime.now(UTC)
        self.path = path
        self.method = method
        self.metadata = metadata
        self.caller: Caller = ANONYMOUS
        self.request: Message | None = None  # until it is parsed
        self.reply: Message | bytes | None = None  # unless it succeeds


@dataclass(frozen=True)
class Audit:
    """Which calls the table reports, and to what."""

    changes: frozenset[str]
    """Paths of methods whose calls are all reported; of others those that were denied."""
    record: Callable[[AuditedCall, str, str], Awaitable[None]]
    """Takes a call with the name of its status code and the message of its failure. It raises nothing."""
