"""SQL of refused events."""

from services.contracts.event_batches import Refusal
from services.kit.db import Connection

_INSERT = """
INSERT INTO refused_events (batch_id, position, kind, code, message, status, event, by_reference)
VALUES (%(batch_id)s, %(position)s, %(kind)s, %(code)s, %(message)s, %(status)b, %(event)b, %(by_reference)s)
ON CONFLICT (batch_id, position) DO NOTHING
"""


async def insert(connection: Connection, refused: Refusal) -> None:
    """Keep `refused`; once however often it is told."""
    await connection.execute(
        _INSERT,
        {
            "batch_id": refused.batch_id,
            "position": refused.position,
            "kind": refused.event.kind.name,
            "code": refused.status.code,
            # PostgreSQL's text holds every character but this one.
            "message": refused.status.message.replace("\x00", "\N{SYMBOL FOR NULL}"),
            "status": refused.status.SerializeToString(),
            "event": refused.event.body,
            "by_reference": refused.event.by_reference,
        },
    )
