"""The file of settings of a sandbox: `settings.toml` in its folder, or the file that SANDBOX_SETTINGS names.

Settings above all tables are for every process that has them, those in the table of a process for it only.
`[environment]` has the variables from which the object store's client reads its credentials. Unknown or wrong settings
are refused before anything starts.
"""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.sandbox.errors import SandboxError
from deploy.sandbox.layout import REPOSITORY, SERVICES, Layout
from deploy.sandbox.settings import SETTINGS

ENVIRONMENT = "environment"
_PROCESSES = (*SERVICES, "gateway")
# What the clients of S3, Google Cloud Storage and Azure read.
_CREDENTIALS = ("AWS_", "GOOGLE_", "AZURE_")

_CONNECTED = "the sandbox connects its own processes"
# Settings that the sandbox makes itself, and why.
DECIDED: Mapping[str, str] = {
    "database_url": "the sandbox runs PostgreSQL itself",
    **dict.fromkeys(
        ("nats_url", "nats_ca_file", "nats_certificate_file", "nats_key_file"), "the sandbox runs NATS itself"
    ),
    **dict.fromkeys(("grpc_address", "http2_address", "http_address"), _CONNECTED),
    **dict.fromkeys(("upstreams", "reflection", "objects", "browser_login"), _CONNECTED),
    **dict.fromkeys(
        ("signing_key", "gateway_secret", "gateway_secret_file", "engine_key_file"),
        "the sandbox makes its own and keeps it",
    ),
    "engine": "the variable SANDBOX_ENGINE decides",
    "listen": "the variable PORT is the gateway's port",
    "admin": "the sandbox keeps it for its owner only",
    "stats": "the sandbox has a socket for that",
    "tls": "the sandbox serves this machine, in clear text",
}
# Settings that must be the same in several processes.
SHARED = (
    "objects_url",
    "objects_buckets",
    "objects_endpoint",
    "objects_region",
    "objects_path_style",
    "objects_azure_account",
    "objects_ca_file",
    "metadata_storage_prefix",
    "task_resource_limits",
    "max_message_bytes",
    "auth_issuer",
    "auth_ca_file",
    "subject_claims",
    "client_claims",
    "authorization_policy",
    "clusters",
    "namespace_template",
)


@dataclass(frozen=True)
class ChosenSettings:
    """The content of a sandbox's file of settings."""

    processes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Settings by process and name."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables for the processes that use the object store."""

    def of(self, process: str) -> Mapping[str, Any]:
        """Return the settings of one process, by name."""
        return self.processes.get(process, {})

    @property
    def login(self) -> bool:
        """Whether callers must log in."""
        return bool(self.of("gateway").get("auth_issuer"))


def read(layout: Layout) -> ChosenSettings:
    """Read and check the file of settings of the sandbox in `layout`.

    Raises:
        SandboxError: the file cannot be read, or a setting in it is unknown, wrong, or made by the sandbox itself.
    """
    named = SETTINGS.read()
    file = Path(named).expanduser().resolve() if named else layout.settings
    if not named and not file.exists():
        return ChosenSettings()
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SandboxError(f"{file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SandboxError(f"{file} is not TOML: {error}") from error
    environment = content.pop(ENVIRONMENT, {})
    problems = [*_environment_problems(environment), *_refused(content)]
    processes: Mapping[str, Mapping[str, Any]] = {}
    if content and not problems:
        processes, problems = _checked(content, environment, layout)
    if problems:
        raise SandboxError("\n".join((f"{file} cannot be used:", *(f"  {problem}" for problem in problems))))
    return ChosenSettings(processes, environment)


def _environment_problems(environment: Any) -> list[str]:
    if not isinstance(environment, dict):
        return [f"{ENVIRONMENT}: must be a table: [{ENVIRONMENT}]"]
    allowed = ", ".join(f"{prefix}*" for prefix in _CREDENTIALS)
    strange = [name for name in environment if not name.startswith(_CREDENTIALS)]
    no_texts = [name for name in environment if name not in strange and not isinstance(environment[name], str)]
    return [
        *(f"{ENVIRONMENT}.{name}: only variables of object stores can be set: {allowed}" for name in strange),
        *(f"{ENVIRONMENT}.{name}: must be a text in quotes" for name in no_texts),
    ]


def _refused(content: Mapping[str, Any]) -> list[str]:
    """Return a message for each setting that the sandbox makes itself or that would differ between processes."""
    tables = {f"{name}.": content[name] for name in _PROCESSES if isinstance(content.get(name), dict)}
    decided = [
        f"{prefix}{name}: cannot be set: {DECIDED[name]}"
        for prefix, table in {"": content, **tables}.items()
        for name in table
        if name in DECIDED
    ]
    apart = [
        f"{prefix}{name}: several processes need the same: write it above all tables"
        for prefix, table in tables.items()
        for name in table
        if name in SHARED
    ]
    return decided + apart


def _checked(
    content: Mapping[str, Any], environment: Mapping[str, str], layout: Layout
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the settings of each process and the problems, by the services' own definitions."""
    # A variable would win over the file. Executions accepts a file:// store only with a signing key, and projects login
    # only with the gateway's secret.
    others = {name: value for name, value in os.environ.items() if not name.startswith("FLYTEPLANE_")}
    secrets = layout.secrets()
    own = {"FLYTEPLANE_SIGNING_KEY": secrets.signing_key, "FLYTEPLANE_GATEWAY_SECRET": secrets.gateway_secret}
    process = subprocess.run(
        (sys.executable, "-m", "services.settings"),
        input=json.dumps(content, default=str),  # for TOML's dates and times; no setting is one
        env={**others, **environment, **own},
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result = json.loads(process.stdout)
    return result["settings"], result["problems"]
