"""`python -m services.events` serves; `python -m services.events migrate` migrates its database."""

from pathlib import Path

from services.events.app import NAME, build
from services.events.config import Settings
from services.kit.process import main

main(NAME, Settings, build, Path(__file__).parent / "store" / "migrations")
