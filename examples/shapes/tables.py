"""Tables: structured datasets with and without columns and a format, and the older schemas.

flytekit's own spelling of columns, `Annotated[StructuredDataset, kwtypes(name=str)]`, needs numpy. Here a type with
columns is made as a plugin for a kind of data frame makes it, with the same result.
"""

from typing import Annotated

from flytekit import FlyteContext, StructuredDataset, kwtypes, task, workflow
from flytekit.extend import TypeEngine, TypeTransformer
from flytekit.models.literals import Literal, Scalar
from flytekit.models.types import LiteralType, SimpleType, StructuredDatasetType
from flytekit.types.schema import FlyteSchema

Column = StructuredDatasetType.DatasetColumn


class Rows:
    """A table of people."""

    columns = (
        Column("name", LiteralType(simple=SimpleType.STRING)),
        Column("age", LiteralType(simple=SimpleType.INTEGER)),
        Column("scores", LiteralType(collection_type=LiteralType(simple=SimpleType.FLOAT))),
    )


class Names(Rows):
    """A table of fewer columns."""

    columns = Rows.columns[:1]


class RowsTransformer(TypeTransformer[Rows]):
    """A transformer of the tables to structured datasets with columns."""

    def get_literal_type(self, t: type[Rows]) -> LiteralType:
        """Return a type with the columns and the format."""
        written = StructuredDatasetType(columns=list(t.columns), format="parquet")
        return LiteralType(structured_dataset_type=written)

    def to_literal(
        self, ctx: FlyteContext, python_val: Rows, python_type: type[Rows], expected: LiteralType
    ) -> Literal:
        """Return an empty literal."""
        return Literal(scalar=Scalar())

    def to_python_value(self, ctx: FlyteContext, lv: Literal, expected_python_type: type[Rows]) -> Rows:
        """Return an empty table."""
        return expected_python_type()


for _table in (Rows, Names):
    TypeEngine.register(RowsTransformer(_table.__name__, _table))

Parquet = Annotated[StructuredDataset, "parquet"]


@task
def columns(a: StructuredDataset, b: Rows, c: list[Rows]) -> Rows:
    """Tables with columns and without."""
    return b if a or c else Rows()


@task
def fewer(a: Names, b: Parquet, c: dict[str, StructuredDataset]) -> Parquet:
    """A task whose input may have more columns than its type."""
    return b if a or c else StructuredDataset()


@task
def schemas(a: FlyteSchema, b: FlyteSchema[kwtypes(x=int, y=str)]) -> FlyteSchema[kwtypes(x=int)]:
    """The older form of tables."""
    return b or a


@workflow
def tables(whatever: StructuredDataset, rows: Rows, more: list[Rows]) -> Parquet:
    """Pass tables to tasks whose types have more or fewer columns."""
    read = columns(a=rows, b=rows, c=more)
    return fewer(a=read, b=whatever, c={"one": read, "other": whatever})
