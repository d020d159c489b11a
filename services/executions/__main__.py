"""`python -m services.executions` serves; `--help` names its other commands."""

from pathlib import Path

from services.executions.app import NAME, build
from services.executions.commands.attributes import ATTRIBUTES
from services.executions.commands.phases import PHASES
from services.executions.config import Settings
from services.kit.process import main

main(
    NAME, Settings, build, Path(__file__).parent / "store" / "migrations", {"attributes": ATTRIBUTES, "phases": PHASES}
)
