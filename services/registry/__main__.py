"""`python -m services.registry` serves; `--help` names its other commands."""

from pathlib import Path

from services.kit.process import main
from services.kit.repair import command
from services.registry.app import NAME, build
from services.registry.config import Settings
from services.registry.store.stored_messages import STORED

main(NAME, Settings, build, Path(__file__).parent / "store" / "migrations", {"repair": command(NAME, STORED)})
