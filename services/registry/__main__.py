"""`python -m services.registry` serves; `python -m services.registry migrate` migrates its database."""

from pathlib import Path

from services.kit.process import main
from services.registry.app import NAME, build
from services.registry.config import Settings

main(NAME, Settings, build, Path(__file__).parent / "store" / "migrations")
