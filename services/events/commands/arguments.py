"""The parser of the commands' arguments."""

import argparse
from datetime import UTC, datetime

EARLIEST = datetime(1, 1, 1, tzinfo=UTC)
"""Before every event."""


def parser(command: str, description: str) -> argparse.ArgumentParser:
    """Return a parser for the arguments of `command`; a wrong argument ends the process with its usage and status 2."""
    return argparse.ArgumentParser(
        prog=f"python -m services.events {command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
