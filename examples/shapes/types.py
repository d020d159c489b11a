"""Tasks of every type that flytekit turns into a Flyte type without further packages."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import Annotated, Any, Literal

from flytekit import Artifact, HashMethod, task, workflow
from flytekit.types.directory import FlyteDirectory
from flytekit.types.file import FlyteFile
from flytekit.types.iterator import JSON
from flytekit.types.pickle import FlytePickle


class Color(Enum):
    """One of three."""

    RED = "red"
    GREEN = "green"
    BLUE = "blue"


@dataclass
class Point:
    """A dataclass within another."""

    x: float
    y: float = 0.5


@dataclass
class Drawing:
    """A dataclass with all kinds of fields."""

    name: str
    color: Color
    points: list[Point]
    labels: dict[str, str] = field(default_factory=dict)
    background: FlyteFile | None = None
    layers: list[list[int]] = field(default_factory=list)


class Plain:
    """A class that no transformer supports: it is pickled."""


@task
def primitives(a: int, b: float, c: str, d: bool, e: datetime, f: timedelta, g: date) -> tuple[bool, datetime]:
    """Every simple type."""
    return bool(a and b and c and d and f and g), e


@task
def collections(a: list[int], b: dict[str, list[str]], c: list[dict[str, float]]) -> dict[str, dict[str, int]]:
    """Lists and maps, one in the other."""
    return {"lengths": {"a": len(a), "b": len(b), "c": len(c)}}


@task
def dataclasses(drawing: Drawing, points: list[Point]) -> Drawing:
    """Dataclasses, with their schema."""
    return Drawing(drawing.name, drawing.color, [*drawing.points, *points])


@task
def enums(color: Color, size: Literal["small", "large"]) -> Color:
    """An enumeration, and a literal type."""
    return color if size == "small" else Color.RED


@task
def unions(a: int | str, b: list[int | None], c: Point | None = None) -> int | str | None:
    """Unions, in lists, and with a default."""
    return a if b or c else None


@task
def files(a: FlyteFile, b: FlyteFile["csv"], c: FlyteDirectory, d: FlyteDirectory["png"]) -> list[FlyteFile]:  # noqa: F821
    """Files and directories, with and without a format."""
    return [a, b, FlyteFile(c.path), FlyteFile(d.path)]


@task
def hashed(a: Annotated[str, HashMethod(len)]) -> Annotated[str, HashMethod(len)]:
    """A value with a hash of its own."""
    return a


@task
def pickled(a: Plain, b: FlytePickle, c: list[Plain]) -> Plain:
    """Values that are pickled."""
    return a if b or c else Plain()


@task(pickle_untyped=True)
def untyped(a) -> int:  # noqa: ANN001
    """A value of no declared type."""
    return int(a)


@task
def structures(a: dict[str, Any], b: dict) -> dict:
    """Free structures."""
    return {**a, **b}


@task
def streamed(a: JSON) -> list[str]:
    """An iterator over lines of JSON."""
    return [str(line) for line in a]


Model = Artifact(name="shapes.model", partition_keys=["region"])


@task
def produced(a: int) -> Annotated[str, Model(region="north")]:
    """An output that is an artifact."""
    return str(a)


@workflow
def typed(
    number: int,
    drawing: Drawing,
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC),
    wait: timedelta = timedelta(hours=2, seconds=1),
    ratio: float = 0.25,
    color: Color = Color.GREEN,
    names: list[str] = ["a", "b"],  # noqa: B006
    table_of_names: dict[str, list[str]] = {"a": ["b"]},  # noqa: B006
    maybe: int | None = None,
    either: int | str = "text",
    point: Point = Point(1.0, 2.0),  # noqa: B008
    file: FlyteFile = FlyteFile("s3://bucket/key"),  # noqa: B008
    flag: bool = True,
) -> tuple[Drawing, int | str | None]:
    """A workflow whose inputs have every type, most of them with a default."""
    primitives(a=number, b=ratio, c="fixed", d=flag, e=at, f=wait, g=date(2026, 2, 3))
    collections(a=[1, number], b=table_of_names, c=[{"a": 0.5}])
    enums(color=color, size="small")
    files(a=file, b="s3://bucket/a.csv", c="s3://bucket/folder", d="s3://bucket/pictures")
    structures(a={"names": 1}, b={"deep": {"deeper": [1, "2", None]}})
    drawn = dataclasses(drawing=drawing, points=[point, Point(3.0)])
    return drawn, unions(a=either, b=[maybe, 1], c=None)
