"""Tables: structured datasets with and without columns and a format, and the older schemas.

flytekit's own spelling of columns, `Annotated[StructuredDataset, kwtypes(name=str)]`, needs numpy. Here a type with
columns is made as a plugin for a kind of data frame makes it, and says the same.
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
    """Makes a structured dataset with columns of one of the tables."""

    def get_literal_type(self, t: type[Rows]) -> LiteralType:
        """Its columns, and how it is written."""
        written = StructuredDatasetType(columns=list(t.columns), format="parquet")
        return LiteralType(structured_dataset_type=written)

    def to_literal(
        self, ctx: FlyteContext, python_val: Rows, python_type: type[Rows], expected: LiteralType
    ) -> Literal:
        """Nothing is written here."""
        return Literal(scalar=Scalar())

    def to_python_value(self, ctx: FlyteContext, lv: Literal, expected_python_type: type[Rows]) -> Rows:
        """Nothing is read here."""
        return expected_python_type()


for _table in (Rows, Names):
    TypeEngine.register(RowsTransformer(_table.__name__, _table))

Parquet = Annotated[StructuredDataset, "parquet"]


@task
def columns(a: StructuredDataset, b: Rows, c: list[Rows]) -> Rows:
    """Columns and none."""
    return b if a or c else Rows()


@task
def fewer(a: Names, b: Parquet, c: dict[str, StructuredDataset]) -> Parquet:
    """Takes a table that has more columns than it asks for."""
    return b if a or c else StructuredDataset()


@task
def schemas(a: FlyteSchema, b: FlyteSchema[kwtypes(x=int, y=str)]) -> FlyteSchema[kwtypes(x=int)]:
    """The older form of tables."""
    return b or a


@workflow
def tables(whatever: StructuredDataset, rows: Rows, more: list[Rows]) -> Parquet:
    """Hands tables to those that ask for more or less of them."""
    read = columns(a=rows, b=rows, c=more)
    return fewer(a=read, b=whatever, c={"one": read, "other": whatever})
