"""Inputs and outputs of raw containers as files (flytekit's ContainerTask), as flyte's co-pilot moves them.

The folders that a task declares are those of its image. Here they are below the folder of the attempt, and the command
gets their paths in place of the declared ones.
"""

import asyncio
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from flyteidl.core.interface_pb2 import Variable
from flyteidl.core.literals_pb2 import Blob, BlobMetadata, Literal, LiteralMap, Primitive, Scalar, Union, Void
from flyteidl.core.tasks_pb2 import DataLoadingConfig, TaskTemplate
from flyteidl.core.types_pb2 import BlobType, LiteralType, SimpleType
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict, Parse, ParseError
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from deploy.sandbox.engine.tasks.local_paths import as_path
from deploy.sandbox.engine.tasks.template import literal_text
from services.kit.objects.store import ObjectStore
from services.kit.protobuf.durations import parse_duration

# Where the co-pilot puts data when a task declares no folder.
_DEFAULT_INPUTS: Final = "/var/flyte/inputs"
_DEFAULT_OUTPUTS: Final = "/var/flyte/outputs"
# A task reports an error by this file among its outputs.
_ERROR: Final = "_ERROR"
_TRUE: Final = frozenset(("true", "t", "1"))
_FALSE: Final = frozenset(("false", "f", "0"))


class DataError(Exception):
    """An input that cannot be a file, or an output that is missing or no value of its type."""


@dataclass(frozen=True)
class DataFolders:
    """The folders of one attempt."""

    root: Path
    config: DataLoadingConfig

    @classmethod
    def of(cls, template: TaskTemplate, root: Path) -> Self | None:
        """Return the folders of a task below `root`; None for one that has none."""
        pod = template.WhichOneof("target") == "k8s_pod"
        config = template.k8s_pod.data_config if pod else template.container.data_config
        return cls(root, config) if config.enabled else None

    @property
    def inputs(self) -> Path:
        """The folder of the inputs."""
        return self.root / "inputs"

    @property
    def outputs(self) -> Path:
        """The folder of the outputs."""
        return self.root / "outputs"

    def in_command(self, command: Sequence[str]) -> list[str]:
        """Return a command with these folders in place of the declared ones."""
        replaced = {
            self.config.output_path or _DEFAULT_OUTPUTS: str(self.outputs),
            self.config.input_path or _DEFAULT_INPUTS: str(self.inputs),
        }
        result = list(command)
        # The longer one first: one may be inside of the other.
        for declared in sorted(replaced, key=len, reverse=True):
            result = [argument.replace(declared.rstrip("/"), replaced[declared]) for argument in result]
        return result

    async def write(self, objects: ObjectStore, values: LiteralMap) -> None:
        """Make the folders and write the inputs.

        Raises:
            DataError: An input cannot be a file.
        """
        for path, uri in await asyncio.to_thread(self._write, values):
            await asyncio.to_thread(path.write_bytes, await objects.get(uri))

    def _write(self, values: LiteralMap) -> list[tuple[Path, str]]:
        self.delete()
        self.inputs.mkdir(mode=0o700, parents=True)
        self.outputs.mkdir(mode=0o700)
        fetched: list[tuple[Path, str]] = []
        for name, literal in values.literals.items():
            _write(self.inputs / name, literal, fetched)
        shown = {name: _shown(literal) for name, literal in values.literals.items()}
        for suffix in ("json", "yaml"):  # JSON is YAML
            (self.inputs / f"inputs.{suffix}").write_text(json.dumps(shown), encoding="utf-8")
        (self.inputs / "inputs.pb").write_bytes(values.SerializeToString())
        return fetched

    async def read(self, objects: ObjectStore, variables: Mapping[str, Variable], prefix: str) -> LiteralMap:
        """Return the outputs; files and folders are stored below `prefix`, a URI or a path.

        Raises:
            DataError: The task reports an error, or an output is missing or no value of its type.
        """
        values, stored = await asyncio.to_thread(self._read, variables, prefix)
        for path, uri in stored:
            await _store(objects, path, uri)
        return values

    def _read(self, variables: Mapping[str, Variable], prefix: str) -> tuple[LiteralMap, list[tuple[Path, str]]]:
        if (self.outputs / _ERROR).exists():
            raise DataError((self.outputs / _ERROR).read_text(encoding="utf-8", errors="replace"))
        values = LiteralMap()
        stored: list[tuple[Path, str]] = []
        for name, variable in variables.items():
            values.literals[name].CopyFrom(_read(self.outputs / name, variable.type, f"{prefix}/{name}", stored))
        return values, stored

    def delete(self) -> None:
        """Delete the folders."""
        shutil.rmtree(self.root, ignore_errors=True)


def _write(path: Path, literal: Literal, fetched: list[tuple[Path, str]]) -> None:
    """Write a value; add the objects to `fetched` that are to be read into files."""
    kind = literal.WhichOneof("value")
    scalar = literal.scalar.WhichOneof("value")
    if kind in {"collection", "map"}:
        items = literal.map.literals if kind == "map" else dict(enumerate(literal.collection.literals))
        path.mkdir(mode=0o700)
        for name, item in items.items():
            _write(path / str(name), item, fetched)
    elif scalar == "union":
        _write(path, literal.scalar.union.value, fetched)
    elif scalar == "blob":
        _copy(path, literal.scalar.blob, fetched)
    elif scalar == "generic":
        path.write_text(json.dumps(MessageToDict(literal.scalar.generic)), encoding="utf-8")
    elif scalar == "primitive":
        path.write_text(literal_text(literal), encoding="utf-8")
    elif scalar != "none_type":
        raise DataError(f"the input {path.name!r} is no file, and no value that can be written as one")


def _copy(path: Path, blob: Blob, fetched: list[tuple[Path, str]]) -> None:
    local = Path(as_path(blob.uri))
    if blob.metadata.type.dimensionality == BlobType.MULTIPART:
        if not local.is_dir():
            raise DataError(f"the folder {blob.uri} is not one of this machine")
        shutil.copytree(local, path)
    elif local.is_file():
        shutil.copyfile(local, path)
    else:
        fetched.append((path, blob.uri))


def _shown(literal: Literal) -> Any:
    kind = literal.WhichOneof("value")
    if kind == "collection":
        return [_shown(item) for item in literal.collection.literals]
    if kind == "map":
        return {name: _shown(item) for name, item in literal.map.literals.items()}
    scalar = literal.scalar
    if scalar.HasField("union"):
        return _shown(scalar.union.value)
    if scalar.HasField("primitive"):
        name = scalar.primitive.WhichOneof("value")
        plain = name in {"integer", "float_value", "string_value", "boolean"}
        return getattr(scalar.primitive, name) if name and plain else literal_text(literal)
    return scalar.blob.uri or None


def _read(path: Path, literal_type: LiteralType, uri: str, stored: list[tuple[Path, str]]) -> Literal:
    """Return a value; add the files to `stored` that are to become objects."""
    kind = literal_type.WhichOneof("type")
    if kind == "union_type":
        return _read_union(path, literal_type, uri, stored)
    if not path.exists():
        raise DataError(f"the output {path.name!r} is missing")
    if kind == "blob":
        stored += _files(path, uri)
        return Literal(scalar=Scalar(blob=Blob(metadata=BlobMetadata(type=literal_type.blob), uri=uri)))
    if kind != "simple":
        raise DataError(f"the output {path.name!r} is of a type that a file cannot have")
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        return Literal(scalar=_scalar(literal_type.simple, text))
    except (ValueError, ParseError) as error:
        raise DataError(f"the output {path.name!r} is no {SimpleType.Name(literal_type.simple)}: {error}") from error


def _read_union(path: Path, literal_type: LiteralType, uri: str, stored: list[tuple[Path, str]]) -> Literal:
    """Return the value of the first variant that the file has; one of NONE if there is no file."""
    error = DataError(f"the output {path.name!r} is missing")
    for variant in literal_type.union_type.variants:
        if variant.simple == SimpleType.NONE and variant.WhichOneof("type") == "simple":
            if path.exists():
                continue
            value = Literal(scalar=Scalar(none_type=Void()))
        else:
            try:
                value = _read(path, variant, uri, stored)
            except DataError as failed:
                error = failed
                continue
        return Literal(scalar=Scalar(union=Union(value=value, type=variant)))
    raise error


def _files(path: Path, uri: str) -> list[tuple[Path, str]]:
    """Return a file, or all files of a folder, with the URIs that they get."""
    if path.is_file():
        return [(path, uri)]
    return [(file, f"{uri}/{file.relative_to(path)}") for file in sorted(path.rglob("*")) if file.is_file()]


async def _store(objects: ObjectStore, path: Path, uri: str) -> None:
    target = Path(as_path(uri))
    if target.is_absolute():
        await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(shutil.copyfile, path, target)
    else:
        await objects.put(uri, await asyncio.to_thread(path.read_bytes))


def _scalar(simple: SimpleType, text: str) -> Scalar:
    stripped = text.strip()
    if simple == SimpleType.STRUCT:
        return Scalar(generic=Parse(text, Struct()))
    if simple == SimpleType.NONE:
        return Scalar(none_type=Void())
    if simple == SimpleType.STRING:
        return Scalar(primitive=Primitive(string_value=text))
    if simple == SimpleType.INTEGER:
        return Scalar(primitive=Primitive(integer=int(stripped)))
    if simple == SimpleType.FLOAT:
        return Scalar(primitive=Primitive(float_value=float(stripped)))
    if simple == SimpleType.BOOLEAN:
        if stripped.lower() not in _TRUE | _FALSE:
            raise ValueError(stripped)
        return Scalar(primitive=Primitive(boolean=stripped.lower() in _TRUE))
    if simple == SimpleType.DATETIME:
        moment = Timestamp()
        moment.FromJsonString(stripped)
        return Scalar(primitive=Primitive(datetime=moment))
    if simple == SimpleType.DURATION:
        duration = Duration()
        duration.FromNanoseconds(parse_duration(stripped))
        return Scalar(primitive=Primitive(duration=duration))
    raise ValueError("a type that a file cannot have")
