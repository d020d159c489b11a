"""The command `audit` of a service: shows its audit log."""

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from services.kit.audit.store import records_since
from services.kit.db.database import at_terminal
from services.kit.process.service import Command
from services.kit.process.settings import ProcessSettings
from services.kit.process.terminal import add_json, add_since, show

_EARLIEST = datetime(1, 1, 1, tzinfo=UTC)
_COLUMNS = ("at", "subject", "client", "address", "method", "resource", "code", "message")


def audit_command(service: str) -> Command[Any]:
    """Return the command of `service`."""

    async def audit(settings: ProcessSettings, arguments: Sequence[str]) -> int:
        options = argparse.ArgumentParser(
            prog=f"python -m services.{service} audit",
            description="Shows calls that changed something or tried to, and calls that were denied, oldest first.",
        )
        add_since(options)
        options.add_argument("--subject", help="only of this caller; '' for those that were not known")
        options.add_argument("--method", metavar="RPC", help="only of this RPC, such as CreateExecution")
        add_json(options, "a call")
        chosen = options.parse_args(arguments)
        async with at_terminal(settings.database_url) as db:
            found = records_since(db, chosen.since or _EARLIEST, chosen.subject, chosen.method)
            rows = [vars(record) | {"at": record.at.astimezone(UTC).isoformat()} async for record in found]
        return show(_COLUMNS, rows, "nothing in the audit log", as_lines=chosen.json)

    return Command("show who changed what, and who was denied what", audit)
