"""The steps of the Dockerfile, run without Docker on the file system of this machine, with what they write kept apart.

Each stage is a folder, the upper layer of an overlay whose lower layer is this machine's root: steps have the absolute
paths of the Dockerfile, this machine's Python is that of the base image, and the folder then has exactly what the image
adds to its base. Mounts are in a mount namespace of each step, so nothing remains mounted. That needs root.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
_VARIABLE = re.compile(r"\$\{?([A-Z_]+)\}?")
# How pip reaches its index here; Docker passes a proxy's variables to steps in the same way.
_PASSED = re.compile(r"(PIP|SSL)_\w+|\w+_proxy|\w+_PROXY")
# The base image's own Python is found there by its cache of libraries, which is this machine's here.
_LIBRARIES = "LD_LIBRARY_PATH=/usr/local/lib"
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


@dataclass(frozen=True)
class Instruction:
    """An instruction of a Dockerfile."""

    name: str
    arguments: str


@dataclass
class Stage:
    """What a stage has so far."""

    layer: Path
    env: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    folder: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)


def instructions(text: str) -> list[Instruction]:
    """Return the instructions of a Dockerfile; it may have no here-documents."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines)
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def build(folder: Path, arguments: Mapping[str, str]) -> Stage:
    """Run the Dockerfile with its layers in `folder`; return the last stage.

    Args:
        folder: An empty folder on a file system that can be the upper layer of an overlay.
        arguments: Arguments of the build.
    """
    base = _base_layer(folder / "base")
    stages: dict[str, Stage] = {}
    stage, values = Stage(folder / "none"), {}
    for step in instructions((ROOT / "Dockerfile").read_text()):
        match step.name:
            case "FROM":
                stage = Stage(folder / f"stage-{len(stages)}")
                stage.layer.mkdir()
                stages[step.arguments.rpartition(" AS ")[2]] = stage
            case "ARG":
                name, _, default = step.arguments.partition("=")
                values[name] = arguments.get(name, default.strip('"'))
            case "ENV":
                for pair in shlex.split(step.arguments):
                    name, _, value = pair.partition("=")
                    stage.env[name] = _VARIABLE.sub(lambda match: stage.env.get(match[1], ""), value)  # noqa: B023
            case "COPY":
                _copy(stage, step.arguments, stages)
            case "RUN":
                passed = {name: value for name, value in os.environ.items() if _PASSED.fullmatch(name)}
                env = {**passed, **values, **stage.env}
                subprocess.run(in_layer(stage.layer, base, ["/bin/sh", "-ec", step.arguments], env), check=True)
            case "WORKDIR":
                stage.folder = step.arguments
            case "USER":
                stage.user = step.arguments
            case "ENTRYPOINT":
                stage.entrypoint = [part.strip('" ') for part in step.arguments.strip("[]").split(",")]
            case "LABEL" | "EXPOSE" | "CMD":
                pass
            case _:
                raise ValueError(f"{step.name} is not known here")
    return stage


def in_layer(layer: Path, base: Path, command: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """Return the command line that runs `command` as root on the file system of `layer`, and writes into it."""
    work = layer.with_name(f"{layer.name}-work")
    work.mkdir(exist_ok=True)
    return _mounted(Stage(layer, dict(env)), f"lowerdir={base}:/,upperdir={layer},workdir={work}", command)


def in_container(
    stage: Stage,
    arguments: Sequence[str],
    env: Mapping[str, str],
    writable: Sequence[Path] = (),
    entrypoint: Sequence[str] | None = None,
) -> list[str]:
    """Return the command line that runs a container of the image: read-only, but for the folders `writable`."""
    base = stage.layer.with_name("base")
    command = [*(stage.entrypoint if entrypoint is None else entrypoint), *arguments]
    options = f"lowerdir={stage.layer}:{base}:/"
    return _mounted(replace(stage, env={**stage.env, **env}), options, command, writable)


def _mounted(stage: Stage, overlay: str, command: Sequence[str], writable: Sequence[Path] = ()) -> list[str]:
    root = stage.layer.with_name(f"{stage.layer.name}-root")
    root.mkdir(exist_ok=True)
    variables = (f"{name}={value}" for name, value in stage.env.items())
    line = shlex.join(["/usr/bin/env", "-i", f"--chdir={stage.folder}", _LIBRARIES, *variables, *command])
    script = " && ".join(
        (
            f"mount -t overlay overlay -o {overlay} {root}",
            f"mount --rbind /proc {root}/proc",
            f"mount --rbind /dev {root}/dev",
            *(f"mount --bind {shlex.quote(str(path))} {root}{shlex.quote(str(path))}" for path in writable),
            f"exec chroot --userspec={stage.user} {root} {line}",
        )
    )
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]


def _base_layer(layer: Path) -> Path:
    """Copy this machine's Python to where the base image has its own; Python finds its library by its place."""
    programs = layer / "usr" / "local" / "bin"
    programs.mkdir(parents=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    prefix = Path(sys.base_prefix)
    shutil.copy(prefix / "bin" / version, programs / version)
    for name in ("python", "python3"):
        (programs / name).symlink_to(version)
    ignored = shutil.ignore_patterns("test", "__pycache__", "*.a")
    shutil.copytree(prefix / "lib" / version, layer / "usr" / "local" / "lib" / version, symlinks=True, ignore=ignored)
    for library in (prefix / "lib").glob("libpython*.so*"):
        shutil.copy(library, layer / "usr" / "local" / "lib", follow_symlinks=False)
    return layer


def _copy(stage: Stage, arguments: str, stages: Mapping[str, Stage]) -> None:
    *sources, target = arguments.split()
    origin = ROOT
    if sources[0].startswith("--from="):
        origin = stages[sources.pop(0).partition("=")[2]].layer
    for source in sources:
        path = origin / source.lstrip("/")
        into = stage.layer / target.lstrip("/")
        if target.endswith("/"):
            into /= path.name
        into.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__") if origin == ROOT else None
            shutil.copytree(path, into, symlinks=True, ignore=ignored, dirs_exist_ok=True)
        else:
            shutil.copy(path, into)


def size(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
