"""`phases`: the progress of an execution, from the counts that events update."""

import argparse
import json
import sys
from collections.abc import Sequence

from services.contracts.execution_argument import execution_argument
from services.executions.commands import NOT_FOUND
from services.executions.config import Settings
from services.executions.rules.events.state import ExecutionKey
from services.executions.store.phase_counts import Progress, progress
from services.kit.db.database import at_terminal
from services.kit.process.service import Command


async def phases(settings: Settings, arguments: Sequence[str]) -> int:
    """Show the phase of an execution and how many of its nodes and tasks are in each phase."""
    options = argparse.ArgumentParser(
        prog="python -m services.executions phases",
        description="Shows the phase of an execution and how many of its nodes and tasks are in each phase.",
    )
    options.add_argument("execution", type=execution_argument, metavar="PROJECT/DOMAIN/NAME")
    options.add_argument("--json", action="store_true", help="a line of JSON")
    chosen = options.parse_args(arguments)
    async with at_terminal(settings.database_url) as db, db.pipeline() as pipeline:
        row = await progress(pipeline, ExecutionKey(*chosen.execution))
    if row is None:
        sys.stderr.write(f"no execution {'/'.join(chosen.execution)}\n")
        return NOT_FOUND
    sys.stdout.write(_as_json(row) if chosen.json else _as_table(row))
    return 0


def _as_json(row: Progress) -> str:
    shown = {"phase": row.phase, "nodes": row.counts.nodes, "tasks": row.counts.tasks}
    return json.dumps(shown, sort_keys=True) + "\n"


def _as_table(row: Progress) -> str:
    rows = [("execution", row.phase, "")]
    for kind, counts in (("nodes", row.counts.nodes), ("tasks", row.counts.tasks)):
        rows += [(kind, phase, str(number)) for phase, number in sorted(counts.items())]
    phase_width, number_width = (max(len(cells[column]) for cells in rows) for column in (1, 2))
    lines = (f"{kind:9}  {phase:{phase_width}}  {number:>{number_width}}" for kind, phase, number in rows)
    return "".join(f"{line.rstrip()}\n" for line in lines)


PHASES = Command("show how many nodes and tasks of an execution are in each phase", phases)
