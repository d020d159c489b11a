"""Access of another user of the machine to a running sandbox."""

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
from deploy.sandbox.spawn import ORDINARY_USER
from tests.support.sandbox import Sandbox


def sockets(sandbox: Sandbox) -> list[Path]:
    """Return the sockets of services and of Envoy's admin interface."""
    layout = Layout(sandbox.folder)
    of_services = [path for path in layout.sockets.iterdir() if path.is_socket()]
    assert of_services
    return [*of_services, layout.admin_socket]


@contextmanager
def opened(folders: set[Path]) -> Iterator[None]:
    """Open folders to all users, as a careless chmod would."""
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
    os.seteuid(pwd.getpwnam(ORDINARY_USER).pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_socket_refuses_other_users_even_in_an_open_folder(attacked: Sandbox) -> None:
    paths = sockets(attacked)
    with opened({attacked.folder, *(path.parent for path in paths)}):
        for path in paths:
            with other_user(), socket.socket(socket.AF_UNIX) as connecting, pytest.raises(PermissionError):
                connecting.connect(str(path))


def test_files_with_passwords_and_sockets_are_for_their_owner_only(attacked: Sandbox) -> None:
    layout = Layout(attacked.folder)
    secret = [layout.root / "secrets.json", layout.nats / "nats.conf", *layout.environments.iterdir()]
    closed = [layout.nats, layout.environments, layout.sockets, layout.gateway, layout.postgres, layout.held]
    for path in (*secret, *closed, *sockets(attacked)):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


async def test_admin_interface_listens_on_its_socket_only(attacked: Sandbox) -> None:
    envoy = psutil.Process(attacked.pid("envoy"))
    listening = {socket_.laddr.port for socket_ in envoy.net_connections("tcp") if socket_.status == psutil.CONN_LISTEN}
    assert listening == {attacked.port}
    response = await http(f"{UNIX}{Layout(attacked.folder).admin_socket}", "GET", "/ready")
    assert response.startswith(b"HTTP/1.1 200")


def test_passwords_are_in_no_status_log_or_command_line(attacked: Sandbox) -> None:
    stored = Layout(attacked.folder).secrets()
    passwords = [
        *(*stored.passwords.values(), *stored.nats_passwords.values()),
        *(stored.superuser_password, stored.signing_key),
    ]
    texts = [attacked.run("status").stdout, *(log.read_text() for log in (attacked.folder / "logs").iterdir())]
    texts += [" ".join(process.cmdline()) for process in psutil.Process(attacked.supervisor).children(recursive=True)]
    assert not [password for password in passwords if any(password in text for text in texts)]
