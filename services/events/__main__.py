"""Entry point: `python -m services.events` runs the service; `--help` lists its other commands."""

from pathlib import Path

from services.events.app import NAME, build
from services.events.commands.replay import REPLAY
from services.events.commands.show import LOG, REFUSED
from services.events.config import Settings
from services.kit.audit.command import audit_command
from services.kit.process.service import main

COMMANDS = {"audit": audit_command(NAME), "log": LOG, "refused": REFUSED, "replay": REPLAY}

main(NAME, Settings, build, Path(__file__).parent / "store" / "migrations", COMMANDS)
