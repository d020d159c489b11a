"""Command line: `python -m services.executions` runs the service, `--help` lists the other commands."""

from pathlib import Path

from services.executions.app import NAME, build
from services.executions.commands.attributes import ATTRIBUTES
from services.executions.commands.phases import PHASES
from services.executions.config import Settings
from services.executions.store.stored_messages import STORED, hold_lanes
from services.kit.audit.command import audit_command
from services.kit.db.repair import command
from services.kit.process.service import main

COMMANDS = {
    "attributes": ATTRIBUTES,
    "audit": audit_command(NAME),
    "phases": PHASES,
    "repair": command(NAME, STORED, hold_lanes),
}

main(NAME, Settings, build, Path(__file__).parent / "store" / "migrations", COMMANDS)
