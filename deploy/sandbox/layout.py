"""The paths in the folder of a sandbox.

A folder is a sandbox when it has the marker; no other folder is ever used or deleted. Passwords and the signing key
are made once and stored, readable by their owner only.
"""

import fcntl
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.sandbox.errors import SandboxError
from deploy.sandbox.files import own_folder, write_json
from deploy.sandbox.ports import Ports

REPOSITORY = Path(__file__).parents[2]
MARKER_TEXT = "A Flyteplane sandbox lives here. `make reset` deletes this folder.\n"
# Also the names of their databases, of their roles there and of their users of NATS.
SERVICES = ("registry", "executions", "events", "projects")
# The engine's part and its user of NATS.
ENGINE = "engine"
# The kernel's limit for the path of a Unix socket.
SOCKET_PATH_MOST = 107
# The same less PostgreSQL's file name in it.
_SOCKET_FOLDER_MOST = SOCKET_PATH_MOST - len("/.s.PGSQL.5432")


@dataclass(frozen=True)
class Secrets:
    """The signing key and the passwords."""

    signing_key: str
    gateway_secret: str
    """What services know the gateway by, where callers log in."""
    engine_key: str
    """The key of the engine's tokens there."""
    superuser_password: str
    passwords: Mapping[str, str]
    """By database, whose role has the same name."""
    nats_passwords: Mapping[str, str]
    """By service or engine, whose user of NATS has the same name."""


@dataclass(frozen=True)
class Layout:
    """The folder of one sandbox."""

    root: Path

    @property
    def marker(self) -> Path:
        """The file that marks the folder as a sandbox."""
        return self.root / ".flyteplane-sandbox"

    @property
    def lock(self) -> Path:
        """The file that the supervisor locks as long as it runs, however it ends."""
        return self.root / "lock"

    @property
    def cpu(self) -> Path:
        """Samples of the parts' CPU seconds."""
        return self.root / "cpu.json"

    @property
    def state(self) -> Path:
        """The file of what runs and on which ports; written by the supervisor."""
        return self.root / "state.json"

    @property
    def held(self) -> Path:
        """The folder with a file for each part to hold down; read by the supervisor."""
        return self.root / "held"

    @property
    def logs(self) -> Path:
        """The folder with a log for each part."""
        return self.root / "logs"

    @property
    def objects(self) -> Path:
        """The object store."""
        return self.root / "objects"

    @property
    def stamps(self) -> Path:
        """The folder of stamps of steps that are done; next to the databases, so both are deleted together."""
        return self.postgres / "done"

    @property
    def postgres(self) -> Path:
        """The folder of PostgreSQL, with its cluster in `data`."""
        return self.root / "postgres"

    @property
    def nats(self) -> Path:
        """The streams and the configuration of NATS."""
        return self.root / "nats"

    @property
    def gateway(self) -> Path:
        """The rendered configuration of Envoy."""
        return self.root / "gateway"

    @property
    def gateway_secret(self) -> Path:
        """The file with the gateway's secret."""
        return self.environments / "gateway_secret"

    @property
    def engine_key(self) -> Path:
        """The file with the key of the engine's tokens."""
        return self.environments / "engine_key"

    @property
    def environments(self) -> Path:
        """The folder with a file for each service that a shell can read, to run that service manually."""
        return self.root / "env"

    @property
    def settings(self) -> Path:
        """The user's file of settings; it may exist before the sandbox does."""
        return self.root / "settings.toml"

    @property
    def engine(self) -> Path:
        """The runs of the engine, the attempts of tasks and their logs."""
        return self.root / "engine"

    @property
    def task_secrets(self) -> Path:
        """Secrets of tasks, as `<group>/<key>`; written by the user."""
        return self.root / "secrets"

    @property
    def sockets(self) -> Path:
        """The folder of the services' sockets for the gateway."""
        return self.root / "sockets"

    @property
    def admin_socket(self) -> Path:
        """The socket of Envoy's admin interface; in a folder with a short path when the sandbox's path is too long."""
        inside = self.gateway / "admin.sock"
        if len(os.fsencode(inside)) <= SOCKET_PATH_MOST:
            return inside
        return self._short("-admin") / inside.name

    @property
    def client_config(self) -> Path:
        """The configuration file for flytekit and flytectl."""
        return self.root / "config.yaml"

    @property
    def postgres_socket(self) -> Path:
        """The folder of PostgreSQL's socket; one with a short path when the sandbox's is too long for the kernel."""
        if len(os.fsencode(self.postgres)) <= _SOCKET_FOLDER_MOST:
            return self.postgres
        return self._short()

    @property
    def elsewhere(self) -> tuple[Path, ...]:
        """Folders of this sandbox outside of its own."""
        folders = {self.postgres_socket, self.admin_socket.parent}
        return tuple(folder for folder in folders if not folder.is_relative_to(self.root))

    def _short(self, suffix: str = "") -> Path:
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"flyteplane-{os.getuid()}-{digest}{suffix}"

    @property
    def _folders(self) -> tuple[Path, ...]:
        data = (self.logs, self.objects, self.postgres, self.stamps, self.nats)
        return (*data, self.gateway, self.environments, self.held, self.sockets, self.engine, self.task_secrets)

    def prepare(self) -> None:
        """Make the folders; raise SandboxError when the root has other content or cannot be written."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.marker.exists():
                if set(self.root.iterdir()) - {self.settings}:
                    raise SandboxError(f"{self.root} is not empty and not a sandbox; choose another SANDBOX_DIR")
                own_folder(self.root)  # it may have been made by the user
                self.marker.write_text(MARKER_TEXT)
            for folder in self._folders:
                own_folder(folder)
            if self.admin_socket.parent in self.elsewhere:
                own_folder(self.admin_socket.parent)
        except OSError as error:
            raise SandboxError(f"{self.root} cannot be used: {error.strerror}") from error

    def claim(self) -> int | None:
        """Lock the sandbox; return the descriptor that holds the lock, or None when a supervisor has it."""
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    @property
    def running(self) -> bool:
        """Whether a supervisor is running here."""
        if not self.lock.exists():
            return False
        descriptor = self.claim()
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    def find_ports(self, gateway: int, names: Sequence[str]) -> Ports:
        """Return the ports for a run: those of the last run where they are free, so little is rendered again.

        Raises:
            SandboxError: the gateway's port is in use.
        """
        file = self.root / "ports.json"
        last = json.loads(file.read_text()) if file.exists() else {}
        ports = Ports.find(gateway, names, last)
        write_json(file, ports.others)
        return ports

    def secrets(self) -> Secrets:
        """Return the secrets of this sandbox; make those that are missing, also in a folder of an earlier release."""
        file = self.root / "secrets.json"
        stored = json.loads(file.read_text()) if file.exists() else {}
        made: dict[str, Any] = {
            "signing_key": secrets.token_urlsafe(32),
            "gateway_secret": secrets.token_urlsafe(32),
            "engine_key": secrets.token_urlsafe(32),
            "superuser_password": secrets.token_urlsafe(18),
            "passwords": {name: secrets.token_urlsafe(18) for name in SERVICES},
            "nats_passwords": {name: secrets.token_urlsafe(18) for name in (*SERVICES, ENGINE)},
        }
        made |= {name: made[name] | value if isinstance(value, dict) else value for name, value in stored.items()}
        if made != stored:
            write_json(file, made)
        return Secrets(**made)
