"""Inputs and outputs of raw containers as files (flytekit's ContainerTask), as flyte's co-pilot moves them.

The folders that a task declares are those of its image. Here they are below the folder of the attempt, and the command
gets their paths in place of the declared ones.
"""

import asyncio
import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self

from flyteidl.core.interface_pb2 import Variable
from flyteidl.core.literals_pb2 import Blob, BlobMetadata, Literal, LiteralMap, Primitive, Scalar, Union, Void
from flyteidl.core.tasks_pb2 import DataLoadingConfig, TaskTemplate
from flyteidl.core.types_pb2 import LiteralType, SimpleType
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import Parse, ParseError
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from deploy.sandbox.engine.tasks.blobs import DataError, fetch, store
from deploy.sandbox.engine.tasks.input_files import shortened, write_inputs
from deploy.sandbox.engine.tasks.plain_files import NotPlain, is_file_name, open_plain
from services.kit.objects.store import ObjectStore
from services.kit.protobuf.durations import parse_duration

# Where the co-pilot puts data when a task declares no folder.
_DEFAULT_INPUTS: Final = "/var/flyte/inputs"
_DEFAULT_OUTPUTS: Final = "/var/flyte/outputs"
# A task reports an error by this file among its outputs.
_ERROR: Final = "_ERROR"
_TRUE: Final = frozenset(("true", "t", "1"))
_FALSE: Final = frozenset(("false", "f", "0"))


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
        for path, blob in await asyncio.to_thread(self._write, values):
            try:
                await fetch(objects, blob, path)
            except DataError as error:
                raise DataError(f"the input {str(path.relative_to(self.inputs))!r}: {error}") from error

    def _write(self, values: LiteralMap) -> list[tuple[Path, Blob]]:
        self.delete()
        self.outputs.mkdir(mode=0o700, parents=True)
        return write_inputs(self.inputs, values)

    async def read(self, objects: ObjectStore, variables: Mapping[str, Variable], prefix: str) -> LiteralMap:
        """Return the outputs; files and folders are stored below `prefix`, a URI or a path.

        Raises:
            DataError: The task reports an error, or an output is missing or no value of its type.
        """
        try:
            values, stored = await asyncio.to_thread(self._read, variables, prefix)
        except PermissionError as error:
            raise DataError(f"the outputs cannot be read: {error.strerror}") from error
        for path, uri in stored:
            with await asyncio.to_thread(self._open, path) as file:
                await store(objects, file, uri)
        return values

    def _read(self, variables: Mapping[str, Variable], prefix: str) -> tuple[LiteralMap, list[tuple[Path, str]]]:
        if (self.outputs / _ERROR).exists():
            raise DataError(self._text(self.outputs / _ERROR))
        values = LiteralMap()
        stored: list[tuple[Path, str]] = []
        for name, variable in variables.items():
            if not is_file_name(name):
                raise DataError(f"no file can have the name of the output {shortened(name)}")
            value = self._value(self.outputs / name, variable.type, f"{prefix}/{name}", stored)
            values.literals[name].CopyFrom(value)
        return values, stored

    def _value(self, path: Path, literal_type: LiteralType, uri: str, stored: list[tuple[Path, str]]) -> Literal:
        """Return a value; add the files to `stored` that are to become objects."""
        kind = literal_type.WhichOneof("type")
        if kind == "union_type":
            return self._union(path, literal_type, uri, stored)
        if not path.exists():
            raise DataError(f"the output {path.name!r} is missing")
        if kind == "blob":
            stored += _files(path, uri)
            return Literal(scalar=Scalar(blob=Blob(metadata=BlobMetadata(type=literal_type.blob), uri=uri)))
        if kind != "simple":
            raise DataError(f"the output {path.name!r} is of a type that a file cannot have")
        text = self._text(path)
        try:
            return Literal(scalar=_scalar(literal_type.simple, text))
        except (ValueError, ParseError) as error:
            message = f"the output {path.name!r} is no {SimpleType.Name(literal_type.simple)}: {error}"
            raise DataError(message) from error

    def _union(self, path: Path, literal_type: LiteralType, uri: str, stored: list[tuple[Path, str]]) -> Literal:
        """Return the value of the first variant that the file has; one of NONE if there is no file."""
        error = DataError(f"the output {path.name!r} is missing")
        for variant in literal_type.union_type.variants:
            if variant.simple == SimpleType.NONE and variant.WhichOneof("type") == "simple":
                if path.exists():
                    continue
                value = Literal(scalar=Scalar(none_type=Void()))
            else:
                try:
                    value = self._value(path, variant, uri, stored)
                except DataError as failed:
                    error = failed
                    continue
            return Literal(scalar=Scalar(union=Union(value=value, type=variant)))
        raise error

    def _text(self, path: Path) -> str:
        with io.TextIOWrapper(self._open(path), encoding="utf-8", errors="replace") as file:
            return file.read()

    def _open(self, path: Path) -> BinaryIO:
        """Open what a task wrote: a file, or a link to one that is in the attempt's folder, too."""
        attempt = self.root.parent.resolve()
        try:
            return open_plain(attempt, path.resolve().relative_to(attempt).parts)
        except (NotPlain, ValueError, RuntimeError) as error:  # of a path elsewhere, of links in a circle
            raise DataError(f"the output {path.name!r} is no file of this attempt") from error

    def delete(self) -> None:
        """Delete the folders."""
        shutil.rmtree(self.root, ignore_errors=True)


def _files(path: Path, uri: str) -> list[tuple[Path, str]]:
    """Return a file, or all files of a folder, with the URIs that they get."""
    if path.is_file():
        return [(path, uri)]
    return [(file, f"{uri}/{file.relative_to(path)}") for file in sorted(path.rglob("*")) if file.is_file()]


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
