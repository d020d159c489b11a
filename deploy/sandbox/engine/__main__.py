"""`python -m deploy.sandbox.engine`: the process of the engine."""

import sys

import uvloop
from pydantic import ValidationError

from deploy.sandbox.engine.app import NAME, serve
from deploy.sandbox.engine.settings import EngineSettings
from services.kit.errors import ServiceError
from services.kit.process.telemetry import log_as_json


def main() -> None:
    """Run the engine until it is stopped."""
    try:
        settings = EngineSettings()  # type: ignore[call-arg]  # its fields come from the environment
    except ValidationError as error:
        sys.exit(f"wrong settings: {error}")
    settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    log_as_json(NAME, settings.log_level)
    try:
        uvloop.run(serve(settings))
    except ServiceError as error:
        sys.exit(f"the engine cannot start: {error.message}")


if __name__ == "__main__":
    main()
