"""Inputs and outputs of raw containers as files."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flyteidl.core.interface_pb2 import Variable
from flyteidl.core.literals_pb2 import Blob, BlobMetadata, Literal, LiteralMap, Scalar
from flyteidl.core.tasks_pb2 import Container, DataLoadingConfig, TaskTemplate
from flyteidl.core.types_pb2 import BlobType, LiteralType, SimpleType, UnionType

from deploy.sandbox.engine.tasks.data_folders import DataError, DataFolders
from services.kit.objects.store import ObjectStore
from tests.support.literals import python_value, to_literals

SINGLE = BlobType(dimensionality=BlobType.SINGLE)
MULTIPART = BlobType(dimensionality=BlobType.MULTIPART)
CONFIG = DataLoadingConfig(enabled=True, input_path="/var/inputs", output_path="/var/outputs")


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    (tmp_path / "objects").mkdir()
    return ObjectStore.open(f"file://{tmp_path}/objects", "", "")


@pytest.fixture
def data(tmp_path: Path) -> DataFolders:
    found = DataFolders.of(TaskTemplate(container=Container(data_config=CONFIG)), tmp_path / "attempt" / "data")
    assert found is not None
    return found


def simple(of: SimpleType) -> LiteralType:
    return LiteralType(simple=of)


def blob(uri: str, of: BlobType) -> Literal:
    return Literal(scalar=Scalar(blob=Blob(uri=uri, metadata=BlobMetadata(type=of))))


async def outputs(
    data: DataFolders, objects: ObjectStore, types: dict[str, LiteralType], prefix: str = ""
) -> LiteralMap:
    variables = {name: Variable(type=each) for name, each in types.items()}
    return await data.read(objects, variables, prefix or objects.uri("raw"))


def test_task_without_data_config_has_no_folders(tmp_path: Path) -> None:
    assert DataFolders.of(TaskTemplate(container=Container()), tmp_path) is None


def test_command_gets_the_folders_of_the_attempt(data: DataFolders) -> None:
    command = data.in_command(["sh", "-c", "cat /var/inputs/x > /var/outputs/y", "--in=/var/inputs"])
    assert command == ["sh", "-c", f"cat {data.inputs}/x > {data.outputs}/y", f"--in={data.inputs}"]


def test_one_declared_folder_may_be_inside_of_the_other(tmp_path: Path) -> None:
    config = DataLoadingConfig(enabled=True, input_path="/data", output_path="/data/out")
    folders = DataFolders(tmp_path, config)
    assert folders.in_command(["/data/out/y", "/data/x"]) == [f"{folders.outputs}/y", f"{folders.inputs}/x"]


async def test_inputs_are_files(data: DataFolders, objects: ObjectStore) -> None:
    values = to_literals({"n": 5, "flag": True, "text": "ü\n", "list": [1, 2], "none": None})
    await data.write(objects, values)
    assert (data.inputs / "n").read_text() == "5"
    assert (data.inputs / "flag").read_text() == "true"
    assert (data.inputs / "text").read_text() == "ü\n"
    assert (data.inputs / "list" / "1").read_text() == "2"
    assert not (data.inputs / "none").exists()
    shown = json.loads((data.inputs / "inputs.json").read_text())
    assert shown == {"n": 5, "flag": True, "text": "ü\n", "list": [1, 2], "none": None}
    assert LiteralMap.FromString((data.inputs / "inputs.pb").read_bytes()) == values


async def test_files_and_folders_are_copied(data: DataFolders, objects: ObjectStore, tmp_path: Path) -> None:
    await objects.put(objects.uri("a", "file"), b"content")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "inner").write_text("inside")
    literals = {"file": blob(objects.uri("a", "file"), SINGLE), "folder": blob(f"file://{folder}", MULTIPART)}
    await data.write(objects, LiteralMap(literals=literals))
    assert (data.inputs / "file").read_bytes() == b"content"
    assert (data.inputs / "folder" / "inner").read_text() == "inside"


@pytest.mark.parametrize(
    ("of", "text", "value"),
    [
        (SimpleType.INTEGER, " 7\n", 7),
        (SimpleType.FLOAT, "1.5\n", 1.5),
        (SimpleType.BOOLEAN, "True\n", True),
        (SimpleType.STRING, "as it is\n", "as it is\n"),
    ],
)
async def test_outputs_are_read_from_files(
    data: DataFolders, objects: ObjectStore, of: SimpleType, text: str, value: Any
) -> None:
    await data.write(objects, LiteralMap())
    (data.outputs / "y").write_text(text)
    assert python_value((await outputs(data, objects, {"y": simple(of)})).literals["y"]) == value


async def test_times_are_read_from_files(data: DataFolders, objects: ObjectStore) -> None:
    await data.write(objects, LiteralMap())
    (data.outputs / "at").write_text("2026-01-02T03:04:05Z\n")
    (data.outputs / "took").write_text("1m30s")
    types = {"at": simple(SimpleType.DATETIME), "took": simple(SimpleType.DURATION)}
    values = (await outputs(data, objects, types)).literals
    assert values["at"].scalar.primitive.datetime.ToJsonString() == "2026-01-02T03:04:05Z"
    assert values["took"].scalar.primitive.duration.ToTimedelta() == timedelta(seconds=90)


async def test_files_of_outputs_are_stored(data: DataFolders, objects: ObjectStore) -> None:
    await data.write(objects, LiteralMap())
    (data.outputs / "file").write_text("made")
    (data.outputs / "folder" / "deep").mkdir(parents=True)
    (data.outputs / "folder" / "deep" / "x").write_text("inside")
    types = {"file": LiteralType(blob=SINGLE), "folder": LiteralType(blob=MULTIPART)}
    values = (await outputs(data, objects, types)).literals
    assert await objects.get(values["file"].scalar.blob.uri) == b"made"
    assert await objects.get(f"{values['folder'].scalar.blob.uri}/deep/x") == b"inside"


async def test_files_of_outputs_are_stored_below_a_path(
    data: DataFolders, objects: ObjectStore, tmp_path: Path
) -> None:
    await data.write(objects, LiteralMap())
    (data.outputs / "file").write_text("made")
    values = await outputs(data, objects, {"file": LiteralType(blob=SINGLE)}, f"{tmp_path}/elsewhere")
    assert values.literals["file"].scalar.blob.uri == f"{tmp_path}/elsewhere/file"
    assert (tmp_path / "elsewhere" / "file").read_text() == "made"


async def test_optional_output_without_a_file_is_none(data: DataFolders, objects: ObjectStore) -> None:
    optional = LiteralType(union_type=UnionType(variants=[simple(SimpleType.INTEGER), simple(SimpleType.NONE)]))
    await data.write(objects, LiteralMap())
    missing = (await outputs(data, objects, {"y": optional})).literals["y"].scalar.union
    assert missing.value.scalar.HasField("none_type")
    (data.outputs / "y").write_text("3")
    found = (await outputs(data, objects, {"y": optional})).literals["y"].scalar.union
    assert python_value(found.value) == 3


@pytest.mark.parametrize(("name", "text", "message"), [("y", "seven", "no INTEGER"), ("x", "1", "missing")])
async def test_output_that_is_no_value_of_its_type_is_an_error(
    data: DataFolders, objects: ObjectStore, name: str, text: str, message: str
) -> None:
    await data.write(objects, LiteralMap())
    (data.outputs / name).write_text(text)
    with pytest.raises(DataError, match=message):
        await outputs(data, objects, {"y": simple(SimpleType.INTEGER)})


async def test_error_file_is_the_error(data: DataFolders, objects: ObjectStore) -> None:
    await data.write(objects, LiteralMap())
    (data.outputs / "_ERROR").write_text("the disk is full")
    with pytest.raises(DataError, match="the disk is full"):
        await outputs(data, objects, {})
