"""Whether one dataclass or pydantic model may be given where another is declared (compiler.md#dataclass-schemas).

Their types contain JSON Schemas as metadata. A larger class may be given for a smaller one: every declared property
must be present and fit. Titles, defaults, additional properties and the like make no difference.
"""

import json
from collections.abc import Callable, Mapping
from typing import TypeAlias
from urllib.parse import unquote

from google.protobuf.struct_pb2 import Struct, Value

Json: TypeAlias = "bool | float | str | list[Json] | dict[str, Json] | None"
Schema: TypeAlias = dict[str, Json]

_TYPE_NAMES = frozenset(("array", "boolean", "integer", "null", "number", "object", "string"))

# A chain of references longer than this is a loop.
_MAX_REFERENCES = 100

# Following a reference, or writing a value, takes at most a step for so many characters.
_CHARACTERS_PER_STEP = 64

# Classes nested deeper than this, through references, are not compared: Python's stack is limited.
_MAX_DEPTH = 50


class _NoSchema(Exception):
    """The document is not a JSON Schema, or one beyond the limits above."""


def struct_castable(given: Struct, declared: Struct, spend: Callable[[int], None]) -> bool:
    """Return whether a value described by the JSON Schema `given` may stand where `declared` is declared.

    Equal documents always fit; a document that is no JSON Schema fits nothing else.

    Args:
        spend: Called with the number of steps that were taken; ends the comparison by raising.
    """
    if given == declared:
        return True
    given_schema, declared_schema = _json(given, spend), _json(declared, spend)
    try:
        return _Schemas(given_schema, declared_schema, spend).fits(given_schema, declared_schema)
    except _NoSchema:
        return False


def _json(struct: Struct, spend: Callable[[int], None]) -> Schema:
    spend(len(struct.fields))
    return {name: _json_value(value, spend) for name, value in struct.fields.items()}


def _json_value(value: Value, spend: Callable[[int], None]) -> Json:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return _json(value.struct_value, spend)
    if kind == "list_value":
        spend(len(value.list_value.values))
        return [_json_value(item, spend) for item in value.list_value.values]
    if kind == "string_value":
        return value.string_value
    if kind == "bool_value":
        return value.bool_value
    return value.number_value if kind == "number_value" else None


class _Schemas:
    """A comparison of two schema documents; a pair that recurs while it is being compared is taken to fit."""

    def __init__(self, given: Schema, declared: Schema, spend: Callable[[int], None]) -> None:
        self._given = given
        self._declared = declared
        self._spend = spend
        self._results: dict[tuple[int, int], bool] = {}  # by the identities of both schemas
        self._depth = 0

    def fits(self, given: Json, declared: Json) -> bool:
        self._spend(1)
        one, other = self._resolved(given, self._given), self._resolved(declared, self._declared)
        key = (id(one), id(other))
        if key not in self._results:
            self._results[key] = True
            self._depth += 1
            if self._depth > _MAX_DEPTH:
                raise _NoSchema
            self._results[key] = self._compare(one, other)
            self._depth -= 1
        return self._results[key]

    def _compare(self, given: Schema, declared: Schema) -> bool:
        lists = (schema.get(keyword) for schema in (given, declared) for keyword in ("type", "required"))
        self._spend(sum(len(names) for names in lists if isinstance(names, list)))
        given_cases, declared_cases = _cases(given), _cases(declared)
        if given_cases is not None or declared_cases is not None:
            return self._cover(given_cases or [given], declared_cases or [declared])
        return (
            all(self.fits(given, part) for part in _schemas(declared, "allOf"))
            and _types_fit(given, declared)
            and self._values_fit(given, declared)
            and ("format" not in declared or self._texts([given.get("format")]) == self._texts([declared["format"]]))
            and self._properties_fit(given, declared)
            and self._items_fit(given, declared)
        )

    def _cover(self, given: list[Json], declared: list[Json]) -> bool:
        """Return whether every case of either side fits one of the other side."""
        return all(any(self.fits(one, other) for other in declared) for one in given) and all(
            any(self.fits(one, other) for one in given) for other in declared
        )

    def _properties_fit(self, given: Schema, declared: Schema) -> bool:
        present, expected = _properties(given), _properties(declared)
        return all(name in present for name in _required(declared)) and all(
            name in present and self.fits(present[name], schema) for name, schema in expected.items()
        )

    def _items_fit(self, given: Schema, declared: Schema) -> bool:
        for keyword in ("items", "prefixItems"):
            if keyword not in declared:
                continue
            one, other = given.get(keyword, True), declared[keyword]
            if not isinstance(other, list):
                if isinstance(one, list) or not self.fits(one, other):
                    return False
            elif not isinstance(one, list) or len(one) != len(other) or not all(map(self.fits, one, other)):
                return False
        return True

    def _values_fit(self, given: Schema, declared: Schema) -> bool:
        allowed, possible = _values(declared), _values(given)
        if allowed is None or possible is None:
            return allowed is None
        return self._texts(possible) <= self._texts(allowed)

    def _texts(self, values: list[Json]) -> set[str]:
        # As JSON text: true differs from the number 1, and every kind of value can be put into a set.
        texts = [json.dumps(value, sort_keys=True) for value in values]
        self._spend(len(texts) + sum(map(len, texts)) // _CHARACTERS_PER_STEP)
        return set(texts)

    def _resolved(self, schema: Json, document: Schema) -> Schema:
        """Follow references, and an `allOf` of a single schema, to the schema itself; raise _NoSchema."""
        for _ in range(_MAX_REFERENCES):
            if isinstance(schema, bool):
                return _ANYTHING if schema else _NOTHING
            if not isinstance(schema, dict):
                break
            parts = schema.get("allOf")
            if "$ref" in schema:
                self._spend(1 + len(str(schema["$ref"])) // _CHARACTERS_PER_STEP)
                schema = _target(schema["$ref"], document)
            elif isinstance(parts, list) and len(parts) == 1 and "type" not in schema and "properties" not in schema:
                schema = parts[0]
            else:
                return schema
        raise _NoSchema


# Objects of their own, as `_results` distinguishes schemas by identity.
_ANYTHING: Schema = {}
_NOTHING: Schema = {"enum": []}


def _target(reference: Json, document: Schema) -> Json:
    if not isinstance(reference, str) or not reference.startswith("#"):
        raise _NoSchema
    schema: Json = document
    for part in reference[1:].split("/")[1:]:
        name = unquote(part).replace("~1", "/").replace("~0", "~")
        if not isinstance(schema, dict) or name not in schema:
            raise _NoSchema
        schema = schema[name]
    return schema


def _cases(schema: Schema) -> list[Json] | None:
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return _schemas(schema, keyword)
    return None


def _schemas(schema: Schema, keyword: str) -> list[Json]:
    value = schema.get(keyword, [])
    if not isinstance(value, list):
        raise _NoSchema
    return value


def _types(schema: Schema) -> frozenset[Json] | None:
    value = schema.get("type")
    if value is None:
        return None
    names = frozenset(name for name in (value if isinstance(value, list) else [value]) if isinstance(name, str))
    if not names or not names <= _TYPE_NAMES:
        raise _NoSchema
    return names


def _types_fit(given: Schema, declared: Schema) -> bool:
    # No widening, as everywhere: an integer is not accepted as a number.
    one, other = _types(given), _types(declared)
    return other is None or one == other


def _values(schema: Schema) -> list[Json] | None:
    if "const" in schema:
        return [schema["const"]]
    return _schemas(schema, "enum") if "enum" in schema else None


def _properties(schema: Schema) -> Mapping[str, Json]:
    value = schema.get("properties", {})
    if not isinstance(value, dict):
        raise _NoSchema
    return value


def _required(schema: Schema) -> list[str]:
    names = [name for name in _schemas(schema, "required") if isinstance(name, str)]
    if len(names) != len(_schemas(schema, "required")):
        raise _NoSchema
    return names
