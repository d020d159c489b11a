"""Addresses and credentials of NATS in the settings."""

import asyncio
import contextlib

import pytest
from nats.aio.client import Client

from services.kit.errors import Unavailable
from services.kit.messaging.bus import Bus
from services.kit.messaging.nats_server import NatsServer, TlsFiles, close
from services.kit.process.settings import ProcessSettings, load
from tests.support.parts import free_port

SECRET = "s3cr3t/p@ss"  # noqa: S105 - of no real user


@pytest.mark.parametrize(
    ("url", "servers", "user", "password"),
    [
        ("nats://127.0.0.1:4222", ("nats://127.0.0.1:4222",), "", ""),
        ("nats://host", ("nats://host",), "", ""),
        ("tls://events:pw@host:1", ("tls://host:1",), "events", "pw"),
        ("nats://events:s3cr3t%2Fp%40ss@host:1", ("nats://host:1",), "events", SECRET),
        ("nats://a:1,nats://events:pw@b:2", ("nats://a:1", "nats://b:2"), "events", "pw"),
        ("nats://events:pw@[::1]:1, nats://c", ("nats://[::1]:1", "nats://c"), "events", "pw"),
    ],
)
def test_a_url_is_parsed_and_printed_without_credentials(
    url: str, servers: tuple[str, ...], user: str, password: str
) -> None:
    server = NatsServer.parse(url)
    assert (server.servers, server.user, server.password) == (servers, user, password)
    assert str(server) == ", ".join(servers)


def test_a_user_has_an_inbox_of_its_own() -> None:
    assert NatsServer.parse("nats://events:pw@host").options(TlsFiles())["inbox_prefix"] == "_INBOX.events"
    assert "inbox_prefix" not in NatsServer.parse("nats://host").options(TlsFiles())


# For each of these the error of some parser contains the password.
WRONG = [
    ("nats_url", f"nats://events:{SECRET}@host:1"),
    ("nats_url", f"nats://events:x@host:{SECRET}"),
    ("nats_url", f"http://events:{SECRET}@host:1"),
    ("nats_url", f"nats://events:{SECRET}@host:1,tls://host:2"),
    ("nats_url", ""),
    ("database_url", f"postgresql:/user:{SECRET}@host/database"),
    ("database_url", f"postgresql://user:{SECRET}%zz@host/database"),
    ("database_url", f"postgresql://user:{SECRET}@[host/database"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_setting_is_named_without_its_password(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"FLYTEPLANE_{name.upper()}", value)
    with pytest.raises(SystemExit, match=f"^wrong settings: {name}: ") as raised:
        load(ProcessSettings)
    assert "s3cr3t" not in str(raised.value)


def test_tls_files_without_tls_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("tls") / "ca.pem"
    file.touch()
    monkeypatch.setenv("FLYTEPLANE_NATS_CA_FILE", str(file))
    with pytest.raises(SystemExit, match="need a nats_url of tls://"):
        load(ProcessSettings)
    monkeypatch.setenv("FLYTEPLANE_NATS_URL", "tls://host")
    assert load(ProcessSettings).nats_tls.ca == file
    monkeypatch.setenv("FLYTEPLANE_NATS_KEY_FILE", str(file))
    with pytest.raises(SystemExit, match="needed together"):
        load(ProcessSettings)


async def test_an_unreachable_server_is_reported_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.kit.messaging.nats_server._START_SECONDS", 0.3)
    port = free_port()
    with pytest.raises(Unavailable) as raised:
        await Bus.connect(f"nats://events:secret@127.0.0.1:{port}", "test")
    assert raised.value.message == f"NATS cannot be reached at nats://127.0.0.1:{port}"


async def test_client_is_closed_although_its_reconnecting_loses_a_cancellation() -> None:
    async def reconnecting() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    client = Client()
    client._status = Client.CLOSED
    client._reconnection_task = asyncio.create_task(reconnecting())
    await asyncio.sleep(0)
    await close(client)
    assert client._reconnection_task.cancelled()
