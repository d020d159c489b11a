"""`python -m services.executions` serves; `python -m services.executions migrate` migrates its database."""

from pathlib import Path

from services.executions.app import NAME, build
from services.executions.config import Settings
from services.kit.process import main

main(NAME, Settings, build, Path(__file__).parent / "store" / "migrations")
