"""Inputs and outputs of raw containers as files."""

import json
import os
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flyteidl.core.interface_pb2 import Variable
from flyteidl.core.literals_pb2 import Blob, BlobMetadata, Literal, LiteralMap, Scalar
from flyteidl.core.tasks_pb2 import Container, DataLoadingConfig, TaskTemplate
from flyteidl.core.types_pb2 import BlobType, LiteralType, SimpleType, UnionType
from google.protobuf.struct_pb2 import Struct, Value

from deploy.sandbox.engine.tasks.blobs import DataError, check_raw_output_prefix
from deploy.sandbox.engine.tasks.data_folders import DataFolders
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


async def test_files_and_folders_of_the_store_are_copied(
    data: DataFolders, objects: ObjectStore, tmp_path: Path
) -> None:
    await objects.put(objects.uri("a", "file"), b"content")
    await objects.put(objects.uri("folder", "deep", "inner"), b"inside")
    literals = {
        "file": blob(objects.uri("a", "file"), SINGLE),
        "path": blob(f"{tmp_path}/objects/a/file", SINGLE),
        "folder": blob(objects.uri("folder") + "/", MULTIPART),
    }
    await data.write(objects, LiteralMap(literals=literals))
    assert (data.inputs / "file").read_bytes() == (data.inputs / "path").read_bytes() == b"content"
    assert (data.inputs / "folder" / "deep" / "inner").read_bytes() == b"inside"


@pytest.mark.parametrize(
    "uri",
    [
        "file:///proc/self/environ",
        "/etc/hostname",
        "etc/hostname",
        "file://{tmp}/objects/../outside",
        "file://{tmp}/objects2/file",
        "file://{tmp}/objects",
        "file://{tmp}/objects/link",
        "file://{tmp}/objects/linked/outside",
        "file://{tmp}/objects/pipe",
        "file://{tmp}/objects/gone",
        "file://{tmp}/objects/a\0b",
        "s3://bucket/key",
        "https://example.org/key",
    ],
)
@pytest.mark.parametrize("of", [SINGLE, MULTIPART])
async def test_blob_that_the_store_does_not_have_is_refused(
    data: DataFolders, objects: ObjectStore, tmp_path: Path, uri: str, of: BlobType
) -> None:
    (tmp_path / "outside").write_text("a secret")
    store = tmp_path / "objects"
    (store / "link").symlink_to(tmp_path / "outside")
    (store / "linked").symlink_to(tmp_path)
    os.mkfifo(store / "pipe")
    given = blob(uri.format(tmp=tmp_path), of)
    with pytest.raises(DataError, match="the input 'b'"):
        await data.write(objects, LiteralMap(literals={"b": given}))
    assert not (data.inputs / "b").is_file()


@pytest.mark.parametrize("of_what", ["link", "pipe"])
async def test_folder_with_what_is_no_file_is_refused(
    data: DataFolders, objects: ObjectStore, tmp_path: Path, of_what: str
) -> None:
    await objects.put(objects.uri("folder", "file"), b"inside")
    if of_what == "link":
        (tmp_path / "objects" / "folder" / "x").symlink_to("/etc")
    else:
        os.mkfifo(tmp_path / "objects" / "folder" / "x")
    with pytest.raises(DataError, match=r"the input 'b'.* x"):
        await data.write(objects, LiteralMap(literals={"b": blob(objects.uri("folder"), MULTIPART)}))


@pytest.mark.parametrize("name", ["../up", "/x", "", ".", "..", "a/b", "a\0b", "ä" * 128, "inputs.json", "inputs.pb"])
async def test_input_with_a_name_that_no_file_can_have_is_refused(
    data: DataFolders, objects: ObjectStore, name: str
) -> None:
    with pytest.raises(DataError, match="no file can have the name of the input"):
        await data.write(objects, to_literals({name: 1}))


@pytest.mark.parametrize("key", ["../../x", "{tmp}/x", "", ".", "..", "a\0b", "x" * 256])
async def test_map_with_a_key_that_no_file_can_have_is_refused(
    data: DataFolders, objects: ObjectStore, tmp_path: Path, key: str
) -> None:
    values = LiteralMap(literals={"m": Literal(map=to_literals({key.format(tmp=tmp_path): "x"}))})
    with pytest.raises(DataError, match="the input 'm' has the key"):
        await data.write(objects, values)
    assert not (tmp_path / "x").exists()


async def test_map_with_long_keys_one_below_the_other_is_refused(data: DataFolders, objects: ObjectStore) -> None:
    value = to_literals({"x": 1}).literals["x"]
    for _ in range(20):
        value = Literal(map=LiteralMap(literals={"k" * 255: value}))
    with pytest.raises(DataError, match="the keys of the input 'm' are too long"):
        await data.write(objects, LiteralMap(literals={"m": value}))


async def test_keys_that_differ_only_by_case_are_two_files(data: DataFolders, objects: ObjectStore) -> None:
    await data.write(objects, LiteralMap(literals={"m": Literal(map=to_literals({"a": 1, "A": 2}))}))
    assert {file.name: file.read_text() for file in (data.inputs / "m").iterdir()} == {"a": "1", "A": "2"}


async def test_number_that_json_does_not_have_is_refused(data: DataFolders, objects: ObjectStore) -> None:
    value = Literal(scalar=Scalar(generic=Struct(fields={"x": Value(number_value=float("nan"))})))
    with pytest.raises(DataError, match="the input 's' has a number"):
        await data.write(objects, LiteralMap(literals={"s": value}))


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


async def test_files_of_outputs_are_stored_below_a_path_of_the_store(
    data: DataFolders, objects: ObjectStore, tmp_path: Path
) -> None:
    await data.write(objects, LiteralMap())
    (data.outputs / "file").write_text("made")
    values = await outputs(data, objects, {"file": LiteralType(blob=SINGLE)}, f"{tmp_path}/objects/here")
    assert values.literals["file"].scalar.blob.uri == f"{tmp_path}/objects/here/file"
    assert (tmp_path / "objects" / "here" / "file").read_text() == "made"


@pytest.mark.parametrize(
    "prefix",
    ["{tmp}/elsewhere", "file://{tmp}/elsewhere", "{tmp}/objects/../elsewhere", "{tmp}/objects/link", "s3://bucket/x"],
)
async def test_files_of_outputs_are_stored_nowhere_else(
    data: DataFolders, objects: ObjectStore, tmp_path: Path, prefix: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "objects" / "link").symlink_to(tmp_path / "elsewhere")
    await data.write(objects, LiteralMap())
    (data.outputs / "file").write_text("made")
    with pytest.raises(DataError, match=r"outside of|no file can be stored"):
        await outputs(data, objects, {"file": LiteralType(blob=SINGLE)}, prefix.format(tmp=tmp_path))
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    ("prefix", "is_refused"),
    [
        ("{tmp}/objects/data", False),
        ("file://{tmp}/objects/data", False),
        ("s3://bucket/x", False),
        ("{tmp}/elsewhere", True),
        ("file://{tmp}/objects/../elsewhere", True),
        ("relative", True),
    ],
)
def test_raw_output_prefix_on_this_machine_must_be_in_the_store(
    objects: ObjectStore, tmp_path: Path, prefix: str, is_refused: bool
) -> None:
    with pytest.raises(DataError, match="outside of this sandbox's object store") if is_refused else nullcontext():
        check_raw_output_prefix(objects, prefix.format(tmp=tmp_path))


@pytest.mark.parametrize("of", [simple(SimpleType.STRING), LiteralType(blob=SINGLE), LiteralType(blob=MULTIPART)])
async def test_links_and_pipes_are_no_outputs(
    data: DataFolders, objects: ObjectStore, tmp_path: Path, of: LiteralType
) -> None:
    (tmp_path / "secret").write_text("a secret")
    await data.write(objects, LiteralMap())
    (data.outputs / "link").symlink_to(tmp_path / "secret")
    (data.outputs / "round").symlink_to("round")
    for name in ("link", "round"):
        with pytest.raises(DataError, match=f"{name!r} is (no file of this attempt|missing)"):
            await outputs(data, objects, {name: of})
    os.mkfifo(data.outputs / "pipe")
    if not of.HasField("blob"):
        with pytest.raises(DataError, match="'pipe' is no file of this attempt"):
            await outputs(data, objects, {"pipe": of})


async def test_link_to_a_file_of_the_attempt_is_an_output(data: DataFolders, objects: ObjectStore) -> None:
    await data.write(objects, LiteralMap())
    (data.outputs / "made").write_text("text")
    (data.outputs / "y").symlink_to("made")
    assert python_value((await outputs(data, objects, {"y": simple(SimpleType.STRING)})).literals["y"]) == "text"


@pytest.mark.parametrize("name", ["{tmp}/secret", "../../../secret", "a\0b"])
async def test_output_with_a_name_that_no_file_can_have_is_refused(
    data: DataFolders, objects: ObjectStore, tmp_path: Path, name: str
) -> None:
    (tmp_path / "secret").write_text("a secret")
    await data.write(objects, LiteralMap())
    with pytest.raises(DataError, match="no file can have the name of the output"):
        await outputs(data, objects, {name.format(tmp=tmp_path): simple(SimpleType.STRING)})


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
