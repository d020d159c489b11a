"""The commands `log` and `refused`: show events and their verdicts."""

from collections.abc import Sequence

from services.contracts.execution_argument import execution_argument
from services.events.commands.arguments import EARLIEST, parser
from services.events.commands.log_reader import belongs_to, objects_of, read_log, read_refused
from services.events.config import Settings
from services.events.rules.log_lines import columns_of
from services.events.store.refused_events import refused_since
from services.kit.db.database import at_terminal
from services.kit.process.service import Command
from services.kit.process.terminal import add_json, add_since, show

_LOG_COLUMNS = ("received", "kind", "node", "attempt", "phase", "version", "verdict", "message")
_REFUSED_COLUMNS = ("id", "refused", "execution", "kind", "node", "attempt", "phase", "version", "verdict", "message")


async def log(settings: Settings, arguments: Sequence[str]) -> int:
    """Show all events received for an execution."""
    options = parser(
        "log",
        "Shows all events received for an execution, in order, with the verdict that was sent on each;\n"
        "'waiting' while it is not known. Events appear a few seconds after they were received.",
    )
    options.add_argument("execution", type=execution_argument, metavar="PROJECT/DOMAIN/NAME")
    add_since(options)
    add_json(options, "an event")
    chosen = options.parse_args(arguments)
    objects = objects_of(settings)
    async with at_terminal(settings.database_url) as db:
        rows = [columns_of(logged) async for logged in read_log(db, objects, chosen.execution, chosen.since)]
    return show(_LOG_COLUMNS, rows, f"no events of {'/'.join(chosen.execution)} in the log", as_lines=chosen.json)


async def refused(settings: Settings, arguments: Sequence[str]) -> int:
    """Show refused events."""
    options = parser(
        "refused",
        "Shows events that were refused for another reason than that they were recorded already. Their senders\n"
        "may have received OK before, while executions was down.",
    )
    options.add_argument("--execution", type=execution_argument, metavar="PROJECT/DOMAIN/NAME", help="only of this one")
    add_since(options)
    add_json(options, "an event")
    chosen = options.parse_args(arguments)
    objects = objects_of(settings)
    rows = []
    async with at_terminal(settings.database_url) as db:
        async for row in refused_since(db, chosen.since or EARLIEST):
            event = await read_refused(objects, row)
            if chosen.execution is None or belongs_to(event, chosen.execution):
                columns = columns_of(event)
                rows.append({"id": row.id, "refused": columns.pop("received"), **columns})
    return show(_REFUSED_COLUMNS, rows, "no refused events", as_lines=chosen.json)


LOG = Command("show every event received for an execution", log)
REFUSED = Command("show refused events", refused)
