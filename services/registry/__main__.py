"""`python -m services.registry` serves; `--help` names its other commands."""

from pathlib import Path

from services.kit.audit.command import audit_command
from services.kit.db.repair import command
from services.kit.process.service import main
from services.registry.app import NAME, build
from services.registry.config import Settings
from services.registry.store.stored_messages import STORED

COMMANDS = {"audit": audit_command(NAME), "repair": command(NAME, STORED)}

main(NAME, Settings, build, Path(__file__).parent / "store" / "migrations", COMMANDS)
