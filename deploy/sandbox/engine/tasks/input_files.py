"""The inputs of a raw container as files: one for each value, folders for lists and maps, and all of them in one file.

Names of inputs and keys of maps become names of files, so those that no file of a folder can have are refused.
"""

import errno
import json
from pathlib import Path
from typing import Any, Final

from flyteidl.core.literals_pb2 import Blob, Literal, LiteralMap
from google.protobuf.json_format import MessageToDict, SerializeToJsonError

from deploy.sandbox.engine.tasks.blobs import DataError
from deploy.sandbox.engine.tasks.plain_files import is_file_name
from deploy.sandbox.engine.tasks.template import literal_text

# Next to the inputs are all of them in one file, in three formats.
_ALL_INPUTS: Final = frozenset(("inputs.json", "inputs.yaml", "inputs.pb"))
# Of a name in an error's message; a client chooses it.
_SHOWN_CHARACTERS: Final = 60


class _BadKey(Exception):
    """A key of a map that no file can have as its name."""


def write_inputs(folder: Path, values: LiteralMap) -> list[tuple[Path, Blob]]:
    """Make the folder and write the inputs; return their blobs, with the paths to which they are to be copied.

    Raises:
        DataError: An input cannot be a file.
    """
    folder.mkdir(mode=0o700)
    blobs: list[tuple[Path, Blob]] = []
    for name, literal in values.literals.items():
        _write_input(folder, name, literal, blobs)
    shown = {name: _shown(literal) for name, literal in values.literals.items()}
    for suffix in ("json", "yaml"):  # JSON is YAML
        (folder / f"inputs.{suffix}").write_text(json.dumps(shown), encoding="utf-8")
    (folder / "inputs.pb").write_bytes(values.SerializeToString())
    return blobs


def _write_input(folder: Path, name: str, literal: Literal, blobs: list[tuple[Path, Blob]]) -> None:
    """Write an input; add its blobs to `blobs`, with the paths to which they are to be copied."""
    if not is_file_name(name) or name in _ALL_INPUTS:
        raise DataError(f"no file can have the name of the input {shortened(name)}")
    try:
        _write(folder / name, literal, blobs)
    except _BadKey as error:
        raise DataError(f"the input {name!r} has the key {error}, which no file can have as its name") from error
    except (SerializeToJsonError, ValueError) as error:
        raise DataError(f"the input {name!r} has a number that JSON does not have: {error}") from error
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise DataError(f"the keys of the input {name!r} are too long, one below the other, for a path") from error


def _write(path: Path, literal: Literal, blobs: list[tuple[Path, Blob]]) -> None:
    kind = literal.WhichOneof("value")
    scalar = literal.scalar.WhichOneof("value")
    if kind in {"collection", "map"}:
        items = literal.map.literals if kind == "map" else dict(enumerate(literal.collection.literals))
        path.mkdir(mode=0o700)
        for key, item in items.items():
            if not is_file_name(str(key)):
                raise _BadKey(shortened(str(key)))
            _write(path / str(key), item, blobs)
    elif scalar == "union":
        _write(path, literal.scalar.union.value, blobs)
    elif scalar == "blob":
        blobs.append((path, literal.scalar.blob))
    elif scalar == "generic":
        path.write_text(json.dumps(MessageToDict(literal.scalar.generic)), encoding="utf-8")
    elif scalar == "primitive":
        path.write_text(literal_text(literal), encoding="utf-8")
    elif scalar != "none_type":
        raise DataError(f"the input {path.name!r} is no file, and no value that can be written as one")


def shortened(name: str) -> str:
    """Return a name of a client for an error's message."""
    return repr(name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}..")


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
