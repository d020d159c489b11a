"""Plays PostgreSQL's image for a rendered pod: makes the cluster, runs the mounted scripts, serves on its address.

As in the image, the superuser's password is in the file that POSTGRES_PASSWORD_FILE names, local connections need none,
and scripts connect by the socket while the server is not in the network yet.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.sandbox.postgres import program
from deploy.sandbox.spawn import ordinary_user, spawn
from tests.support.pods import Node, Pod

_START_SECONDS = 60.0
_POLL_SECONDS = 0.05
_SCRIPTS = "/docker-entrypoint-initdb.d"
_HBA = "local all all trust\nhost all all all scram-sha-256\n"


@contextmanager
def running_postgres_pod(node: Node, pod: Pod) -> Iterator[None]:
    """Run the pod during the block."""
    node.prepare(pod)
    (container,) = pod.spec["containers"]
    environment = node.environment(pod, container) | {"PATH": f"{program('psql').parent}:{os.environ['PATH']}"}
    data, run = Path(environment["PGDATA"]), Path(node.local(pod, container, "/var/run/postgresql"))
    # A socket's path has 107 characters at most.
    sockets = Path("/tmp") / f"fp-chart-{os.getpid()}"  # noqa: S108 - removed at the end
    sockets.mkdir(exist_ok=True)
    _own(pod.folder, run, sockets)
    initdb = (str(program("initdb")), "-D", str(data), "-U", environment["PGUSER"], "--auth=trust", "--encoding=UTF8")
    _finish(
        spawn(
            (*initdb, f"--pwfile={environment['POSTGRES_PASSWORD_FILE']}"),
            env=environment,
            folder=pod.folder,
            drop_root=True,
        )
    )
    (data / "pg_hba.conf").write_text(_HBA)
    line = (str(program("postgres")), "-D", str(data), "-c", f"unix_socket_directories={sockets}", "-c", "fsync=off")
    server = spawn(
        (*line, "-c", f"listen_addresses={pod.address}", "-c", "max_connections=200"),
        env=environment,
        folder=pod.folder,
        log=pod.folder / "postgresql.log",
        drop_root=True,
    )
    try:
        _await(sockets)
        for script in sorted(Path(node.local(pod, container, _SCRIPTS)).iterdir()):
            subprocess.run(["bash", str(script)], env=environment | {"PGHOST": str(sockets)}, check=True, timeout=60)
        yield
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
        shutil.rmtree(sockets, ignore_errors=True)


def _own(*folders: Path) -> None:
    """Give folders to the user as whom PostgreSQL runs."""
    user = ordinary_user()
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        if user is not None:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, user.pw_uid, user.pw_gid)


def _finish(process: "subprocess.Popen[bytes]") -> None:
    assert process.wait() == 0


def _await(sockets: Path) -> None:
    """Wait until the server accepts connections; raise TimeoutError."""
    end = time.monotonic() + _START_SECONDS
    while subprocess.run([str(program("pg_isready")), "--quiet", "--host", str(sockets)], check=False).returncode:
        if time.monotonic() > end:
            raise TimeoutError("PostgreSQL does not accept connections")
        time.sleep(_POLL_SECONDS)
