"""An encrypted connection to a real NATS server."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.kit.errors import Unavailable
from services.kit.messaging.bus import Bus
from services.kit.messaging.nats_server import TlsFiles
from tests.support.parts import free_port, running_nats


@pytest.fixture(scope="module")
def own_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """Make a self-signed certificate for both the server and the client."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    subject = ("-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    subprocess.run([*command, *subject, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return TlsFiles(certificate, certificate, key)


@pytest.fixture(scope="module")
def url(own_files: TlsFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a server that requires certificates and passwords."""
    certificates = f'cert_file: "{own_files.certificate}", key_file: "{own_files.key}", ca_file: "{own_files.ca}"'
    tls = f"tls {{ {certificates}, verify: true }}\n"
    users = 'authorization { users = [{ user: "events", password: "pw" }] }\n'
    with running_nats(tmp_path_factory.mktemp("nats"), free_port(), tls + users) as plain:
        yield plain.replace("nats://", "tls://events:pw@")


async def test_a_service_with_certificate_and_password_connects(own_files: TlsFiles, url: str) -> None:
    bus = await Bus.connect(url, "events", own_files)
    await bus.check()
    await bus.close()


@pytest.mark.parametrize("missing", ["authority", "certificate", "password"])
async def test_a_service_without_one_of_these_is_refused(missing: str, own_files: TlsFiles, url: str) -> None:
    files = {
        "authority": TlsFiles(None, own_files.certificate, own_files.key),
        "certificate": TlsFiles(own_files.ca),
        "password": own_files,
    }
    with pytest.raises(Unavailable, match=r"^NATS cannot be reached at tls://127\.0\.0\.1:\d+$"):
        await Bus.connect(url.replace(":pw@", ":no@") if missing == "password" else url, "events", files[missing])


async def test_the_password_is_not_sent_to_a_server_without_tls(own_files: TlsFiles, tmp_path: Path) -> None:
    with running_nats(tmp_path, free_port(), "debug: true\ntrace: true\n") as plain:
        with pytest.raises(Unavailable):
            await Bus.connect(plain.replace("nats://", "tls://events:pw@"), "events", own_files)
        assert "[CONNECT" not in (tmp_path / "nats.log").read_text()
        await (await Bus.connect(plain, "events")).close()
        assert "[CONNECT" in (tmp_path / "nats.log").read_text()
