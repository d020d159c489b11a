"""The audit log as a service has it: off, or written from its method table."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from google.protobuf.message import Message

from services.kit.audit.log import AuditLog, subject_of
from services.kit.audit.store import AuditRecord
from services.kit.db.database import Database
from services.kit.messaging.bus import Bus
from services.kit.process.settings import ProcessSettings
from services.kit.rpc.audited_calls import Audit, AuditedCall

ResourceOf = Callable[[str, Message, Message | bytes | None], str]
"""Returns the name of what a call is about, by its path, its request and its reply."""

ADDRESS_HEADER = "x-flyteplane-address"
"""The header with the address of the client, which the gateway sets whatever a client sends."""

# Callers choose names and addresses, and messages quote them.
_MOST_NAME_CHARACTERS = 512
_MOST_MESSAGE_CHARACTERS = 2048

_Loop = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class AuditTrail:
    """What a service needs of it."""

    audit: Audit | None = None
    """For the method table; None: nothing is recorded."""
    loops: Sequence[_Loop] = ()
    flush: Sequence[_Loop] = ()
    """To be called when the calls have ended."""

    @classmethod
    def of(
        cls,
        service: str,
        settings: ProcessSettings,
        db: Database,
        bus: Bus,
        *,
        changes: frozenset[str],
        resource_of: ResourceOf,
    ) -> Self:
        """Return what the setting `audit_log` says.

        Args:
            service: The name of the service.
            settings: Its settings.
            db: Its database.
            bus: Its connection to NATS.
            changes: Paths of the methods that change something.
            resource_of: Names what a call is about.
        """
        if not settings.audit_log:
            return cls()
        log = AuditLog(db, partial(bus.send, subject_of(service)), settings.audit_log_days)

        async def record(call: AuditedCall, code: str, message: str) -> None:
            await log.put(record_of(call, code, message, resource_of))

        return cls(Audit(changes, record), (log.run, log.retain), (log.flush,))


def record_of(call: AuditedCall, code: str, message: str, resource_of: ResourceOf) -> AuditRecord:
    """Return the record of a call."""
    resource = "" if call.request is None else resource_of(call.path, call.request, call.reply)
    return AuditRecord(
        call.at,
        call.method,
        _stored(call.caller.subject),
        _stored(call.caller.client),
        _stored(resource),
        _stored(call.metadata.get(ADDRESS_HEADER, "")),
        code,
        _stored(message, _MOST_MESSAGE_CHARACTERS),
    )


def _stored(text: str, most: int = _MOST_NAME_CHARACTERS) -> str:
    """Return `text` as PostgreSQL stores it: without the character 0 and lone surrogates, and not too long."""
    shown = text[:most].replace("\x00", "\N{SYMBOL FOR NULL}")
    return shown.encode(errors="replace").decode()
