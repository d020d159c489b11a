"""kube-apiserver and etcd, built from their Go modules once for each version.

They are kept outside of the repository: a build takes minutes. `python -m tests.support.cluster_binaries` builds them
and prints their folder; its exit status is 3 where there is no Go.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

SOURCE = Path(__file__).parents[1] / "cluster" / "binaries"
NAMES = ("etcd", "kube-apiserver")
# On a slow machine, with all modules to be downloaded.
_BUILD_SECONDS = 3600
# Where Go's own installer puts it, if the PATH does not name it.
_GO = "/usr/local/go/bin"
_NO_GO = 3


class NoGo(Exception):
    """Go is not installed, so that nothing can be built."""


def binaries() -> Path:
    """Return the folder with the binaries; build them first if they are missing. Raise NoGo."""
    folder = _cache() / f"cluster-{_digest()}"
    if _complete(folder):
        return folder
    go = shutil.which("go") or shutil.which("go", path=_GO)
    if go is None:
        raise NoGo(f"kube-apiserver and etcd are not in {folder}, and Go, which builds them, is not found")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be building them
        if not _complete(folder):
            _build(go, folder)
    return folder


def kubernetes_version() -> str:
    """Return the version of Kubernetes, as v1.34.2."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v[\d.]+)$", (SOURCE / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{SOURCE / 'go.mod'} names no version of k8s.io/kubernetes")
    return found[1]


def _build(go: str, folder: Path) -> None:
    version = kubernetes_version()
    major, minor, _ = version.removeprefix("v").split(".")
    variables = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    flags = " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in variables.items())
    with TemporaryDirectory(dir=folder.parent) as temporary:
        for name in NAMES:
            subprocess.run(
                [go, "build", "-mod=readonly", "-trimpath", f"-ldflags=-s -w {flags}", "-o", temporary, f"./{name}"],
                cwd=SOURCE,
                env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"},
                timeout=_BUILD_SECONDS,
                check=True,
            )
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in NAMES:
            (Path(temporary) / name).rename(folder / name)


def _complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in NAMES)


def _digest() -> str:
    sources = sorted(path for path in SOURCE.rglob("*") if path.suffix in {".go", ".mod", ".sum"})
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flyteplane"


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{binaries()}\n")
    except NoGo as missing:
        sys.stderr.write(f"{missing}\n")
        sys.exit(_NO_GO)
