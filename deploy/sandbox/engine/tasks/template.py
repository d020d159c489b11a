"""The variables in a task's command and arguments (`{{.input}}`, `{{.inputs.x}}` ..), filled in as flytepropeller does.

Names are matched without regard to case. A variable that is not one of these stays as it is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from flyteidl.core.literals_pb2 import Literal, LiteralMap, Primitive, Scalar
from google.protobuf.timestamp_pb2 import Timestamp

_VARIABLE = re.compile(r"\{\{\s*[.$](?P<name>[^}\s]+)\s*\}\}", re.ASCII)
_INPUTS = "inputs."
# What the name of an attempt may not contain where it is used in queries.
_NO_LEADING_LETTER = re.compile(r"^[^a-zA-Z_]+", re.ASCII)
_NO_WORD = re.compile(r"[^a-zA-Z0-9_]+", re.ASCII)
# Go writes floating point numbers with an exponent outside of this range.
_LEAST_EXPONENT, _MOST_EXPONENT = -4, 21
_NANOS = 1_000_000_000
# An argument that is empty would get lost in a shell's command line.
_EMPTY = '""'


class TemplateError(Exception):
    """A command that cannot be filled in."""


@dataclass(frozen=True)
class Variables:
    """The values of an attempt's variables; URIs but for `generated_name` and `inputs`."""

    input: str
    output_prefix: str
    raw_output_prefix: str
    checkpoint_prefix: str
    previous_checkpoint_prefix: str
    task_template: str
    generated_name: str
    """The name of the attempt, `<execution>-<node>-<attempt>`."""
    namespace: str
    inputs: LiteralMap


def filled(templates: Sequence[str], variables: Variables) -> list[str]:
    """Return `templates` with their variables replaced; raise TemplateError for an input that is missing or no text."""
    values = {
        "input": variables.input,
        "inputprefix": variables.input.rpartition("/")[0],
        "outputprefix": variables.output_prefix,
        "rawoutputdataprefix": variables.raw_output_prefix,
        "checkpointoutputprefix": variables.checkpoint_prefix,
        "prevcheckpointprefix": variables.previous_checkpoint_prefix or _EMPTY,
        "perretryuniquekey": _NO_WORD.sub("_", _NO_LEADING_LETTER.sub("a", variables.generated_name)),
        "tasktemplatepath": variables.task_template,
        "namespace": variables.namespace,
    }

    def value(match: re.Match[str]) -> str:
        name = match["name"]
        if name.lower().startswith(_INPUTS):
            return _input(name[len(_INPUTS) :], variables.inputs)
        return values.get(name.lower(), match[0])

    return [_VARIABLE.sub(value, template) for template in templates]


def uses_task_template(templates: Sequence[str]) -> bool:
    """Return whether a command needs the task's template as an object."""
    return any(match["name"].lower() == "tasktemplatepath" for text in templates for match in _VARIABLE.finditer(text))


def _input(name: str, inputs: LiteralMap) -> str:
    if name not in inputs.literals:
        raise TemplateError(f"the command needs the input {name!r}, which the task does not have")
    try:
        return literal_text(inputs.literals[name])
    except TemplateError as error:
        raise TemplateError(f"the input {name!r} cannot be part of a command: {error}") from None


def literal_text(literal: Literal) -> str:
    """Return a value as text; raise TemplateError for one that has none."""
    kind = literal.WhichOneof("value")
    if kind == "collection":
        return f"[{','.join(map(literal_text, literal.collection.literals))}]"
    if kind == "scalar":
        return _scalar_text(literal.scalar)
    raise TemplateError(f"a literal of the kind {kind} has no text")


def _scalar_text(scalar: Scalar) -> str:
    kind = scalar.WhichOneof("value")
    if kind == "primitive":
        return _primitive_text(scalar.primitive)
    if kind in {"blob", "schema", "structured_dataset"}:
        uri: str = getattr(scalar, kind).uri
        return uri
    raise TemplateError(f"a scalar of the kind {kind} has no text")


def _datetime_text(value: Timestamp) -> str:
    try:
        text: str = value.ToJsonString()
    except ValueError as error:
        raise TemplateError(f"a datetime outside of the years 1 to 9999 has no text: {value.seconds} s") from error
    return text


def _primitive_text(primitive: Primitive) -> str:
    kind = primitive.WhichOneof("value")
    if kind == "float_value":
        return _float_text(primitive.float_value)
    if kind == "boolean":
        return "true" if primitive.boolean else "false"
    if kind == "datetime":
        return _datetime_text(primitive.datetime)
    if kind == "duration":
        return f"{primitive.duration.seconds + primitive.duration.nanos / _NANOS:g}s"
    if kind in {"integer", "string_value"}:
        return str(getattr(primitive, kind))
    raise TemplateError("a primitive without a value has no text")


def _float_text(value: float) -> str:
    """Return `value` as Go's `%v`: the shortest digits, without `.0`, with an exponent for large and small numbers."""
    if value != value or value in {float("inf"), float("-inf")}:  # noqa: PLR0124 - NaN is not equal to itself
        return {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}[repr(value)]
    digits = repr(value).partition("e")[0].replace(".", "").lstrip("-0").rstrip("0") or "0"
    exponent = int(f"{value:e}".partition("e")[2])
    sign = "-" if repr(value).startswith("-") else ""
    if value and not _LEAST_EXPONENT <= exponent < _MOST_EXPONENT:
        mantissa = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
        return f"{sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    whole, fraction = digits[: exponent + 1].ljust(exponent + 1, "0"), digits[exponent + 1 :]
    return f"{sign}{whole}{'.' + fraction if fraction else ''}"
