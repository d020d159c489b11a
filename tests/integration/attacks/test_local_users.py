"""What another user of the machine can reach of a running sandbox."""

import os
import pwd
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from deploy.sandbox.layout import Layout
from deploy.sandbox.ready import UNIX, http
from tests.support.sandbox import Sandbox


def sockets(sandbox: Sandbox) -> list[Path]:
    """The sockets of services and of Envoy's admin interface."""
    layout = Layout(sandbox.folder)
    found = [path for path in layout.sockets.iterdir() if path.is_socket()]
    assert found
    return [*found, layout.admin_socket]


@contextmanager
def opened(folders: set[Path]) -> Iterator[None]:
    """Let everybody into folders, as somebody's careless chmod would."""
    before = {folder: stat.S_IMODE(folder.stat().st_mode) for folder in folders}
    for folder in folders:
        folder.chmod(0o755)
    try:
        yield
    finally:
        for folder, mode in before.items():
            folder.chmod(mode)


@contextmanager
def other_user() -> Iterator[None]:
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_no_other_user_can_connect_to_a_socket_even_in_an_open_folder(attacked: Sandbox) -> None:
    found = sockets(attacked)
    with opened({attacked.folder, *(path.parent for path in found)}):
        for path in found:
            with other_user(), socket.socket(socket.AF_UNIX) as connecting, pytest.raises(PermissionError):
                connecting.connect(str(path))


def test_what_holds_passwords_or_leads_to_services_is_its_owners_alone(attacked: Sandbox) -> None:
    layout = Layout(attacked.folder)
    secret = [layout.root / "secrets.json", layout.nats / "nats.conf", *layout.environments.iterdir()]
    closed = [layout.nats, layout.environments, layout.sockets, layout.gateway, layout.postgres, layout.held]
    for path in (*secret, *closed, *sockets(attacked)):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


async def test_the_admin_interface_answers_on_its_socket_alone(attacked: Sandbox) -> None:
    envoy = psutil.Process(attacked.pid("envoy"))
    listening = {one.laddr.port for one in envoy.net_connections("tcp") if one.status == psutil.CONN_LISTEN}
    assert listening == {attacked.port}
    answer = await http(f"{UNIX}{Layout(attacked.folder).admin_socket}", "GET", "/ready")
    assert answer.startswith(b"HTTP/1.1 200")


def test_no_password_is_told_by_status_or_in_a_log(attacked: Sandbox) -> None:
    kept = Layout(attacked.folder).secrets()
    passwords = [*kept.passwords.values(), *kept.nats_passwords.values(), kept.superuser_password, kept.signing_key]
    told = [attacked.run("status").stdout, *(log.read_text() for log in (attacked.folder / "logs").iterdir())]
    told += [" ".join(process.cmdline()) for process in psutil.Process(attacked.supervisor).children(recursive=True)]
    assert not [password for password in passwords if any(password in text for text in told)]
