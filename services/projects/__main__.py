"""`python -m services.projects` serves; `python -m services.projects migrate` migrates its database."""

from pathlib import Path

from services.kit.process import main
from services.projects.app import NAME, build
from services.projects.config import Settings

main(NAME, Settings, build, Path(__file__).parent / "store" / "migrations")
