"""The part of the local engine."""

import os
import sys
from fractions import Fraction
from pathlib import Path

from deploy.sandbox.errors import SandboxError
from deploy.sandbox.layout import ENGINE, REPOSITORY, Layout
from deploy.sandbox.part import Part
from deploy.sandbox.ports import Ports
from deploy.sandbox.ready import http_ok, http_problem
from deploy.sandbox.settings import COLD_TASKS, TASK_CORES, TASK_MEMORY, TASK_NICE, TASK_PYTHON
from deploy.sandbox.settings import ENGINE as CHOSEN
from deploy.sandbox.settings_file import ChosenSettings
from services.contracts.quantities import parse_quantity

# The name of its port; a sandbox without this port has no engine.
ENGINE_PORT = f"{ENGINE}-http"
_PREFIX = "SANDBOX_ENGINE_"
# The engine forks only to start another program at once; gRPC would report each fork.
_GRPC = {"GRPC_ENABLE_FORK_SUPPORT": "0"}
_LOCAL, _KUBERNETES = "local", "kubernetes"
_CHOICES = (_LOCAL, _KUBERNETES, "none")
# Less is none of a core; `_UNLIMITED` is what no machine has.
_LEAST_CORES, _UNLIMITED, _MOST_NICE = Fraction(1, 100), 1 << 60, 19
# The environment of tasks, next to that of the services.
_TASK_ENVIRONMENT = REPOSITORY / ".venv-tasks"
_TASK_LOCK = REPOSITORY / "requirements-tasks.lock"


def has_engine() -> bool:
    """Return whether SANDBOX_ENGINE chooses the local engine; raise SandboxError when it is wrong."""
    return _chosen() == _LOCAL


def engine_settings(defaults: str) -> dict[str, str]:
    """Return the variables of executions for what SANDBOX_ENGINE chooses; raise SandboxError when it is wrong.

    Args:
        defaults: the resources of tasks that ask for none, on this machine.
    """
    chosen = _chosen()
    if chosen == _LOCAL:
        return {"FLYTEPLANE_ENGINE": "requests", "FLYTEPLANE_TASK_RESOURCE_DEFAULTS": defaults}
    return {"FLYTEPLANE_ENGINE": chosen}


def _chosen() -> str:
    if (chosen := CHOSEN.read()) not in _CHOICES:
        raise SandboxError(f"SANDBOX_ENGINE is {chosen!r}; it can be {', '.join(_CHOICES[:-1])} or {_CHOICES[-1]}")
    return chosen


def _of_tasks() -> dict[str, str]:
    """Return what tasks may use of this machine; raise SandboxError for what is no amount."""
    settings = {}
    for variable, name, least, most in (
        (TASK_CORES, "CORES", _LEAST_CORES, _UNLIMITED),
        (TASK_MEMORY, "MEMORY_BYTES", 1, _UNLIMITED),
        (TASK_NICE, "NICE", 0, _MOST_NICE),
    ):
        if not (text := variable.read()):
            continue
        try:
            amount = parse_quantity(text)
        except ValueError as error:
            raise SandboxError(f"{variable.name} is {text!r}, which is no amount: {error}") from error
        if not least <= amount <= most or (variable is not TASK_CORES and amount.denominator != 1):
            raise SandboxError(f"{variable.name} is {text!r}, which is out of range")
        settings[name] = f"{float(amount):g}" if variable is TASK_CORES else str(int(amount))
    return settings


def engine_part(layout: Layout, ports: Ports, chosen: ChosenSettings, stops_before: tuple[str, ...]) -> Part:
    """Return the engine's part; it calls the others, so it stops before them."""
    password = layout.secrets().nats_passwords[ENGINE]
    of_executions = chosen.of("executions")
    settings = {
        "NATS_URL": f"nats://{ENGINE}:{password}@{ports.address('nats')}",
        "GATEWAY": f"localhost:{ports.gateway}",
        "OBJECTS_URL": str(of_executions.get("objects_url", layout.objects.as_uri())),
        "HTTP_ADDRESS": ports.address(ENGINE_PORT),
        "FOLDER": str(layout.engine),
        "SECRETS_FOLDER": str(layout.task_secrets),
        "CLIENT_CONFIG": str(layout.client_config),
        "TASK_ENVIRONMENT": str(_TASK_ENVIRONMENT),
        "TASK_LOCK": str(_TASK_LOCK),
        "WARM": "false" if COLD_TASKS.read() else "true",
        "LOG_LEVEL": os.environ.get("FLYTEPLANE_LOG_LEVEL") or str(of_executions.get("log_level", "info")),
    }
    settings |= _of_tasks()
    if python := TASK_PYTHON.read():
        # Not resolved: the interpreter of an environment is a link to that of the system.
        settings["TASK_PYTHON"] = str(Path(python).expanduser().absolute())
    return Part(
        name=ENGINE,
        command=(sys.executable, "-m", "deploy.sandbox.engine"),
        env={f"{_PREFIX}{name}": value for name, value in settings.items()} | dict(chosen.environment) | _GRPC,
        is_ready=http_ok(ports.address(ENGINE_PORT), "/readyz"),
        problem=http_problem(ports.address(ENGINE_PORT), "/readyz"),
        data=layout.engine,
        needs=("nats",),
        stops_before=stops_before,
    )
