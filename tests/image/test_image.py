"""The image: its steps run in clean folders, and what they make starts as the image's user on a read-only root."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from deploy.sandbox import postgres
from deploy.sandbox.layout import SERVICES, Layout
from deploy.sandbox.spawn import spawn
from tests.support.image_build import Stage, build, in_container, instructions, size
from tests.support.parts import START_SECONDS, await_port, free_port, running_nats

ROOT = Path(__file__).parents[2]
MOST_BYTES = 250_000_000
# Above that of python:3.11-slim-trixie: Debian trixie without documentation has 82 million bytes (debootstrap's
# minbase), Python 3.11 without tests 55 million, pip in it some more.
BASE_BYTES = 145_000_000
BUILD = {"COMMIT": "0123456789abcdef", "TIME": "2026-01-02T03:04:05+00:00"}
SIGNING_KEY = "a key for tests"

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="running the steps of the Dockerfile needs root and Linux"
)


@pytest.fixture(scope="module")
def image() -> Iterator[Stage]:
    # Not on the root file system, which is the lower layer: layers must not be inside of one another.
    with TemporaryDirectory(prefix="fp-image-", dir="/dev/shm") as folder:  # a folder of its own in it
        yield build(Path(folder), BUILD)


@contextmanager
def running_postgres(folder: Path) -> Iterator[int]:
    """Run PostgreSQL with the databases of all services on a port of the loopback interface."""
    layout = Layout(folder)
    layout.prepare()
    postgres.prepare(layout)
    with (layout.postgres / "data" / "pg_hba.conf").open("a") as rules:
        rules.write("host sameuser all 127.0.0.1/32 scram-sha-256\n")
    port = free_port()
    options = ("-c", "listen_addresses=127.0.0.1", "-c", f"port={port}", "-c", "fsync=off")
    process = spawn((*postgres.command(layout), *options), env=os.environ, folder=folder, drop_root=True)
    try:
        await_port(port)
        yield port
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, dict[str, str]]]:
    """Run PostgreSQL and NATS; yield the environment of each service, with a folder for objects."""
    with (
        TemporaryDirectory(prefix="fp-", ignore_cleanup_errors=True) as folder,
        running_nats(Path(folder) / "nats", free_port()) as nats,
        running_postgres(Path(folder) / "sandbox") as port,
    ):
        objects = Path(folder) / "objects"
        objects.mkdir()
        Path(folder).chmod(0o755)
        os.chown(objects, 65532, 65532)
        passwords = Layout(Path(folder) / "sandbox").secrets().passwords
        yield {name: _environment(name, passwords[name], port, nats, objects) for name in SERVICES}


def _environment(name: str, password: str, port: int, nats: str, objects: Path) -> dict[str, str]:
    env = {
        "FLYTEPLANE_DATABASE_URL": f"postgresql://{name}:{password}@127.0.0.1:{port}/{name}",
        "FLYTEPLANE_NATS_URL": nats,
        "FLYTEPLANE_DRAIN_SECONDS": "0",
        **{f"FLYTEPLANE_{server}_ADDRESS": f"127.0.0.1:{free_port()}" for server in ("GRPC", "HTTP", "HTTP2")},
    }
    if name != "projects":
        env["FLYTEPLANE_OBJECTS_URL"] = f"file://{objects}"
    if name == "executions":
        env["FLYTEPLANE_SIGNING_KEY"] = SIGNING_KEY
    return env


def test_image_is_small_and_has_no_installer(image: Stage) -> None:
    added = size(image.layer)
    print(f"{added:,} bytes above the base image")  # noqa: T201  # `make image-check` with -s shows it
    assert added + BASE_BYTES < MOST_BYTES, f"{added:,} bytes above the base image"
    names = {path.name for path in image.layer.rglob("*")}
    assert not {"pip", "setuptools", "pytest", "hypothesis", "envoy", "nats-server"} & names
    assert {path.name for path in (image.layer / "opt" / "flyteplane" / "app").iterdir()} == {
        *("services", "gateway", "deploy"),
        *("pyproject.toml", "build.toml", "LICENSE"),
    }


def test_image_runs_as_an_ordinary_user_and_knows_its_build(image: Stage) -> None:
    program = (
        "import json, os; from services.kit.process.version import running_version;"
        "v = running_version(); print(json.dumps([os.getuid(), v.commit, v.time, os.access('/opt', os.W_OK)]))"
    )
    command = in_container(image, [program], {}, entrypoint=["python", "-c"])
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert json.loads(printed) == [65532, BUILD["COMMIT"], BUILD["TIME"], False]


def test_image_renders_the_gateway(image: Stage) -> None:
    upstreams = [f"--upstream={name}={name}:8083" for name in SERVICES]
    with TemporaryDirectory(prefix="fp-") as folder:
        os.chown(folder, 65532, 65532)
        command = in_container(image, ["gateway", "render", "--out", f"{folder}/out", *upstreams], {}, [Path(folder)])
        subprocess.run(command, check=True)
        assert (Path(folder) / "out" / "envoy.yaml").exists()


@pytest.mark.parametrize("name", SERVICES)
def test_service_migrates_and_serves_on_a_read_only_root(
    image: Stage, environment: dict[str, dict[str, str]], name: str
) -> None:
    env = environment[name]
    objects = [Path(url.removeprefix("file://"))] if (url := env.get("FLYTEPLANE_OBJECTS_URL")) else []
    subprocess.run(in_container(image, [f"services.{name}", "migrate"], env), check=True)
    process = subprocess.Popen(in_container(image, [f"services.{name}"], env, objects))
    try:
        _await_ready(process, env["FLYTEPLANE_HTTP_ADDRESS"])
    finally:
        process.terminate()
        assert process.wait() == 0


def _await_ready(process: subprocess.Popen[bytes], address: str) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, "the service has ended"
        try:
            with urllib.request.urlopen(f"http://{address}/readyz", timeout=2):
                return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def test_image_has_the_python_of_the_tests() -> None:
    """The locks are tested with one minor version of Python; the base image has the same."""
    (image,) = [each.arguments for each in instructions((ROOT / "Dockerfile").read_text()) if each.name == "ARG"][:1]
    assert f"python:{sys.version_info.major}.{sys.version_info.minor}-slim" in image
