"""Real PostgreSQL and NATS for tests, and a service started in this process on top of them."""

import asyncio
import contextlib
import importlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import psycopg
from psycopg import sql

from deploy.sandbox import postgres
from deploy.sandbox.layout import Layout
from deploy.sandbox.spawn import spawn
from services.kit.db.migrations import migrate
from services.kit.process.service import serve

START_SECONDS = 20.0
# A test does not need its data after a crash of the machine, so commits do not wait for the disk.
_WITHOUT_FSYNC = ("-c", "fsync=off")
SERVICES = Path(__file__).parents[2] / "services"


@dataclass(frozen=True)
class Parts:
    """The addresses of PostgreSQL and NATS of a test session."""

    postgres_url: str  # of the superuser's own database
    nats_url: str
    folder: Path
    _templates: dict[str, str] = field(default_factory=dict)
    """The migrated template database of each service that has one so far."""

    def new_database(self, name: str, template: str = "template1") -> str:
        """Create a copy of the database `template`, by default an empty one; return its URL."""
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        with psycopg.connect(self.postgres_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            connection.execute(create)
        base, separator, options = self.postgres_url.partition("?")
        return f"{base.rpartition('/')[0]}/{name}{separator}{options}"

    def migrated_database(self, service: str, name: str) -> str:
        """Create a database at the newest schema version of `service`; return its URL.

        The migrations run only for the first one; all are copies of one template.
        """
        if service not in self._templates:
            template = f"template_{service}"
            migrate(self.new_database(template), migrations_of(service))
            self._templates[service] = template
        return self.new_database(name, self._templates[service])


def migrations_of(service: str) -> Path:
    """Return the folder of a service's migrations."""
    return SERVICES / service / "store" / "migrations"


# Below those that Linux gives to outgoing connections, so that the port is still free when a server takes it.
_PORTS = range(12_000, 32_000)


def free_port() -> int:
    """Return a port of the loopback interface that is not in use now."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311  # a port is no secret
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def running_parts(folder: Path) -> Iterator[Parts]:
    """Run PostgreSQL and NATS with JetStream during the block, with their files in `folder`."""
    with running_nats(folder / "nats", free_port()) as nats_url, running_postgres(folder / "sandbox") as postgres_url:
        yield Parts(postgres_url, nats_url, folder)


@contextmanager
def running_postgres(folder: Path) -> Iterator[str]:
    """Run PostgreSQL during the block as a sandbox in `folder` does; yield the URL of its superuser's database."""
    layout = Layout(folder)
    layout.prepare()
    postgres.prepare(layout)
    line = (*postgres.command(layout), *_WITHOUT_FSYNC)
    process = spawn(line, env=os.environ, folder=folder, log=layout.logs / "postgres.log", drop_root=True)
    password = layout.secrets().superuser_password
    url = f"postgresql://{postgres.SUPERUSER}:{password}@/postgres?host={quote(str(layout.postgres_socket), safe='')}"
    try:
        _await_postgres(url)
        yield url
    finally:
        process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
        process.wait()


def _await_postgres(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


@contextmanager
def running_nats(folder: Path, port: int, more: str = "") -> Iterator[str]:
    """Run NATS on `port` during the block; yield its URL.

    Args:
        folder: its files.
        port: its port.
        more: further lines of its configuration.
    """
    binary = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or "nats-server"
    folder.mkdir(parents=True, exist_ok=True)
    log = (folder / "nats.log").open("ab")
    config = folder / "nats.conf"
    config.write_text(f'jetstream {{ store_dir: "{folder}" }}\nmax_payload: 8MB\n{more}')
    process = subprocess.Popen([binary, "-c", str(config), "-a", "127.0.0.1", "-p", str(port)], stderr=log)
    try:
        await_port(port)
        yield f"nats://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
        log.close()


def await_port(port: int) -> None:
    """Wait until a process listens on `port` of the loopback interface; raise TimeoutError."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.2):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on {port}")


@dataclass(frozen=True)
class Served:
    """A service running in this process."""

    channel: grpc.aio.Channel
    settings: Any
    http_url: str


@asynccontextmanager
async def service(name: str, parts: Parts, database: str, **settings: Any) -> AsyncIterator[Served]:
    """Create `database`, and run the service `name` on it during the block.

    Args:
        name: the service.
        parts: PostgreSQL and NATS.
        database: name of the new database.
        settings: settings of the service, except addresses, database and NATS.
    """
    app = importlib.import_module(f"services.{name}.app")
    config = importlib.import_module(f"services.{name}.config")
    url = await asyncio.to_thread(parts.migrated_database, name, database)
    own_settings = config.Settings(
        database_url=url,
        nats_url=parts.nats_url,
        grpc_address=f"127.0.0.1:{free_port()}",
        http2_address=f"127.0.0.1:{free_port()}",
        http_address=f"127.0.0.1:{free_port()}",
        drain_seconds=1,
        **settings,
    )
    stopping = asyncio.Event()
    running = asyncio.create_task(serve(name, own_settings, app.build, migrations_of(name), stopping))
    async with grpc.aio.insecure_channel(own_settings.grpc_address) as channel:
        ready = asyncio.create_task(channel.channel_ready())
        await asyncio.wait([ready, running], timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        try:
            if not ready.done():
                await running
                raise TimeoutError(f"{name} did not start")
            yield Served(channel, own_settings, f"http://{own_settings.http_address}")
        finally:
            ready.cancel()
            stopping.set()
            await running
