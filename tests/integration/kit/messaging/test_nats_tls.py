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
def own(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A certificate that vouches for itself, of the server and of the client."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    about = ("-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    subprocess.run([*command, *about, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return TlsFiles(certificate, certificate, key)


@pytest.fixture(scope="module")
def url(own: TlsFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that asks for certificates and passwords."""
    tls = f'tls {{ cert_file: "{own.certificate}", key_file: "{own.key}", ca_file: "{own.ca}", verify: true }}\n'
    users = 'authorization { users = [{ user: "events", password: "pw" }] }\n'
    with running_nats(tmp_path_factory.mktemp("nats"), free_port(), tls + users) as plain:
        yield plain.replace("nats://", "tls://events:pw@")


async def test_a_service_with_its_certificate_and_password_is_let_in(own: TlsFiles, url: str) -> None:
    bus = await Bus.connect(url, "events", own)
    await bus.check()
    await bus.close()


@pytest.mark.parametrize("lacking", ["authority", "certificate", "password"])
async def test_whoever_lacks_one_of_these_is_not(lacking: str, own: TlsFiles, url: str) -> None:
    files = {
        "authority": TlsFiles(None, own.certificate, own.key),
        "certificate": TlsFiles(own.ca),
        "password": own,
    }
    with pytest.raises(Unavailable, match=r"^NATS cannot be reached at tls://127\.0\.0\.1:\d+$"):
        await Bus.connect(url.replace(":pw@", ":no@") if lacking == "password" else url, "events", files[lacking])


async def test_a_server_without_tls_is_not_told_the_password(own: TlsFiles, tmp_path: Path) -> None:
    with running_nats(tmp_path, free_port(), "debug: true\ntrace: true\n") as plain:
        with pytest.raises(Unavailable):
            await Bus.connect(plain.replace("nats://", "tls://events:pw@"), "events", own)
        assert "[CONNECT" not in (tmp_path / "nats.log").read_text()
        await (await Bus.connect(plain, "events")).close()
        assert "[CONNECT" in (tmp_path / "nats.log").read_text()
