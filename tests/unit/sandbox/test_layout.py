"""Folders, ports and secrets of a sandbox."""

import socket
import stat
from pathlib import Path

import pytest

from deploy.sandbox.errors import SandboxError
from deploy.sandbox.layout import DATABASES, Layout, Ports
from tests.support.parts import free_port


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "sandbox")
    made.prepare()
    return made


def test_secrets_are_made_once_and_for_their_owner_only(layout: Layout) -> None:
    secrets = layout.secrets()
    assert layout.secrets() == secrets
    assert stat.S_IMODE((layout.root / "secrets.json").stat().st_mode) == 0o600
    assert len({secrets.signing_key, secrets.superuser_password, *secrets.passwords.values()}) == len(DATABASES) + 2


def test_passwords_need_no_quoting(layout: Layout) -> None:
    # They stand in SQL text and in URLs.
    secrets = layout.secrets()
    assert all(text.replace("-", "").replace("_", "").isalnum() for text in secrets.passwords.values())


@pytest.mark.parametrize("depth", [1, 30, 60, 90, 120, 200])
def test_socket_fits_the_kernels_limit_however_deep_the_sandbox_lies(depth: int) -> None:
    folder = Layout(Path("/") / ("x" * depth)).postgres_socket
    assert len(f"{folder}/.s.PGSQL.5432") <= 107


def test_deep_sandboxes_do_not_share_a_socket() -> None:
    first, second = (Layout(Path("/") / ("x" * 120) / name).postgres_socket for name in ("a", "b"))
    assert first != second


def test_ports_of_the_last_run_are_used_again_unless_taken(layout: Layout) -> None:
    gateway = free_port()
    first = layout.find_ports(gateway, ("a", "b"))
    assert layout.find_ports(gateway, ("a", "b")) == first
    with socket.socket() as other:
        other.bind(("127.0.0.1", first.others["a"]))
        second = layout.find_ports(gateway, ("a", "b"))
    assert second.others["a"] != first.others["a"]
    assert second.others["b"] == first.others["b"]


def test_no_port_is_given_twice() -> None:
    names = [str(number) for number in range(200)]
    ports = Ports.find(free_port(), names, {})
    assert len({ports.gateway, *ports.others.values()}) == 201


def test_only_one_can_claim_a_sandbox(layout: Layout) -> None:
    assert not layout.running
    assert layout.claim() is not None
    assert layout.claim() is None
    assert layout.running


def test_preparing_again_keeps_what_is_there(layout: Layout) -> None:
    (layout.objects / "kept").write_text("data")
    layout.prepare()
    assert (layout.objects / "kept").read_text() == "data"


def test_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SandboxError, match="file/sandbox cannot be used: Not a directory"):
        Layout(tmp_path / "file" / "sandbox").prepare()
