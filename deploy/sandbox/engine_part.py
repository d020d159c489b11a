"""The part of the local engine."""

import os
import sys
from pathlib import Path

from deploy.sandbox.errors import SandboxError
from deploy.sandbox.layout import ENGINE, REPOSITORY, Layout
from deploy.sandbox.part import Part
from deploy.sandbox.ports import Ports
from deploy.sandbox.ready import http_ok, http_problem
from deploy.sandbox.settings import COLD_TASKS, TASK_CORES, TASK_MEMORY, TASK_NICE, TASK_PYTHON, Variable
from deploy.sandbox.settings import ENGINE as CHOSEN
from deploy.sandbox.settings_file import ChosenSettings

# The name of its port; a sandbox without this port has no engine.
ENGINE_PORT = f"{ENGINE}-http"
_PREFIX = "SANDBOX_ENGINE_"
# The engine forks only to start another program at once; gRPC would report each fork.
_GRPC = {"GRPC_ENABLE_FORK_SUPPORT": "0"}
_LOCAL, _KUBERNETES = "local", "kubernetes"
_CHOICES = (_LOCAL, _KUBERNETES, "none")
# More than machines have, and the kernel's largest niceness.
_MOST_CORES, _MOST_GIBIBYTES, _MOST_NICE = 10_000, 100_000, 19
_GIBIBYTE = 1 << 30
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
    """Return what tasks may use of this machine; raise SandboxError for what is no such amount."""
    return {
        "CORES": f"{_amount(TASK_CORES, _MOST_CORES):g}",
        "MEMORY_BYTES": str(int(_amount(TASK_MEMORY, _MOST_GIBIBYTES) * _GIBIBYTE)),
        "NICE": str(int(_amount(TASK_NICE, _MOST_NICE))),
    }


def _amount(variable: Variable, most: int) -> float:
    """Return the value of a variable, 0 if it is empty."""
    text = variable.read() or "0"
    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    if not 0 <= amount <= most:  # neither is NaN
        raise SandboxError(f"{variable.name} is {text!r}; it can be a number from 0 to {most}")
    return amount


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
    if chosen.login:
        settings["TOKEN_KEY"] = layout.secrets().engine_key
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
