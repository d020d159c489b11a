"""Folders, ports and secrets of a sandbox."""

import errno
import json
import socket
import stat
from pathlib import Path
from tempfile import gettempdir

import pytest

from deploy.sandbox.errors import SandboxError
from deploy.sandbox.files import is_private, write_private
from deploy.sandbox.layout import SERVICES, Layout
from deploy.sandbox.ports import Ports
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
    passwords = (*secrets.passwords.values(), *secrets.nats_passwords.values())
    assert len({secrets.signing_key, secrets.superuser_password, *passwords}) == 2 * len(SERVICES) + 3


def test_secrets_of_an_earlier_release_stay_and_those_that_it_lacks_are_made(layout: Layout) -> None:
    secrets = layout.secrets()
    file = layout.root / "secrets.json"
    earlier = json.loads(file.read_text())
    del earlier["nats_passwords"]
    file.write_text(json.dumps(earlier))
    later = layout.secrets()
    assert later.passwords == secrets.passwords
    assert later.nats_passwords.keys() == secrets.nats_passwords.keys()
    assert later.nats_passwords != secrets.nats_passwords
    assert layout.secrets() == later


def test_file_is_replaced_as_a_whole_or_not_at_all(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    file = layout.root / "file"
    write_private(file, "old")
    file.chmod(0o644)
    assert not is_private(file, "old")
    write_private(file, "old")
    assert is_private(file, "old")

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_private(file, "new")
    assert is_private(file, "old")
    assert not file.with_suffix(".new").exists()


def test_folders_of_secrets_that_are_open_are_closed_and_those_of_others_refused(layout: Layout) -> None:
    layout.environments.chmod(0o755)
    layout.prepare()
    assert stat.S_IMODE(layout.environments.stat().st_mode) == 0o700
    layout.environments.rmdir()
    layout.environments.symlink_to(layout.nats)
    with pytest.raises(SandboxError, match="env belongs to another user"):
        layout.prepare()


def test_passwords_need_no_quoting(layout: Layout) -> None:
    # They are part of SQL text and of URLs.
    secrets = layout.secrets()
    assert all(text.replace("-", "").replace("_", "").isalnum() for text in secrets.passwords.values())


@pytest.mark.parametrize("depth", [1, 30, 60, 90, 120, 200])
def test_socket_path_fits_the_kernels_limit_however_long_the_sandboxs_path_is(depth: int) -> None:
    layout = Layout(Path("/") / ("x" * depth))
    assert len(f"{layout.postgres_socket}/.s.PGSQL.5432") <= 107
    assert len(str(layout.admin_socket)) <= 107
    assert all(folder.parent == Path(gettempdir()) for folder in layout.elsewhere)


def test_deep_sandboxes_do_not_share_a_socket() -> None:
    first, second = (Layout(Path("/") / ("x" * 120) / name).elsewhere for name in ("a", "b"))
    assert len({*first, *second}) == 4


def test_ports_of_the_last_run_are_used_again_unless_taken(layout: Layout) -> None:
    gateway = free_port()
    first = layout.find_ports(gateway, ("a", "b"))
    assert layout.find_ports(gateway, ("a", "b")) == first
    with socket.socket() as other:
        other.bind(("127.0.0.1", first.others["a"]))
        second = layout.find_ports(gateway, ("a", "b"))
    assert second.others["a"] != first.others["a"]
    assert second.others["b"] == first.others["b"]


def test_ports_are_all_different() -> None:
    names = [str(number) for number in range(200)]
    ports = Ports.find(free_port(), names, {})
    assert len({ports.gateway, *ports.others.values()}) == 201


def test_sandbox_is_claimed_only_once(layout: Layout) -> None:
    assert not layout.running
    assert layout.claim() is not None
    assert layout.claim() is None
    assert layout.running


def test_preparing_again_keeps_files(layout: Layout) -> None:
    (layout.objects / "kept").write_text("data")
    layout.prepare()
    assert (layout.objects / "kept").read_text() == "data"


def test_folder_that_cannot_be_made_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SandboxError, match="file/sandbox cannot be used: Not a directory"):
        Layout(tmp_path / "file" / "sandbox").prepare()
