"""Variables in commands of tasks are filled in as flytepropeller does."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flyteidl.core.literals_pb2 import (
    Blob,
    Literal,
    LiteralCollection,
    LiteralMap,
    Primitive,
    Scalar,
    Void,
)

from deploy.sandbox.engine.tasks.template import TemplateError, Variables, filled, uses_task_template


def literal(**value: Any) -> Literal:
    return Literal(scalar=Scalar(primitive=Primitive(**value)))


def moment() -> Literal:
    result = literal()
    result.scalar.primitive.datetime.FromDatetime(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    return result


def span() -> Literal:
    result = literal()
    result.scalar.primitive.duration.FromTimedelta(timedelta(seconds=90))
    return result


INPUTS = LiteralMap(
    literals={
        "n": literal(integer=3),
        "x": literal(float_value=2.0),
        "yes": literal(boolean=True),
        "text": literal(string_value="Größe {{.input}}"),
        "when": moment(),
        "long": span(),
        "file": Literal(scalar=Scalar(blob=Blob(uri="s3://b/f"))),
        "list": Literal(collection=LiteralCollection(literals=[literal(integer=1), literal(integer=2)])),
        "none": Literal(scalar=Scalar(none_type=Void())),
    }
)


def variables(**changed: Any) -> Variables:
    values: dict[str, Any] = {
        "input": "s3://b/n0/data/inputs.pb",
        "output_prefix": "s3://b/n0/data/0",
        "raw_output_prefix": "s3://raw/0",
        "checkpoint_prefix": "s3://raw/0/check",
        "previous_checkpoint_prefix": "",
        "task_template": "s3://b/n0/data/0/task.pb",
        "generated_name": "3xec-n0-0",
        "namespace": "p-d",
        "inputs": INPUTS,
    }
    return Variables(**(values | changed))


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.input}}", "s3://b/n0/data/inputs.pb"),
        ("{{ .Input }}", "s3://b/n0/data/inputs.pb"),
        ("{{$input}}", "s3://b/n0/data/inputs.pb"),
        ("{{.inputPrefix}}", "s3://b/n0/data"),
        ("{{.outputPrefix}}", "s3://b/n0/data/0"),
        ("{{.rawOutputDataPrefix}}/x", "s3://raw/0/x"),
        ("{{.checkpointOutputPrefix}}", "s3://raw/0/check"),
        ("{{.prevCheckpointPrefix}}", '""'),
        ("{{.perRetryUniqueKey}}", "axec_n0_0"),
        ("{{.taskTemplatePath}}", "s3://b/n0/data/0/task.pb"),
        ("{{.namespace}}", "p-d"),
        ("{{.unknown}} {{other}}", "{{.unknown}} {{other}}"),
        ("n={{.inputs.n}}", "n=3"),
        ("{{.Inputs.n}}{{.inputs.n}}", "33"),
        ("{{.inputs.x}}", "2"),
        ("{{.inputs.yes}}", "true"),
        ("{{.inputs.text}}", "Größe {{.input}}"),
        ("{{.inputs.when}}", "2026-01-02T03:04:05Z"),
        ("{{.inputs.long}}", "90s"),
        ("{{.inputs.file}}", "s3://b/f"),
        ("{{.inputs.list}}", "[1,2]"),
    ],
)
def test_variable_is_replaced_by_its_value(template: str, text: str) -> None:
    assert filled([template], variables()) == [text]


def test_previous_checkpoint_is_replaced_by_its_uri() -> None:
    assert filled(["{{.prevCheckpointPrefix}}"], variables(previous_checkpoint_prefix="s3://c")) == ["s3://c"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.5, "-0.5"),
        (3.14, "3.14"),
        (100.0, "100"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e-7, "1.5e-07"),
        (0.0001, "0.0001"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
        (float("nan"), "NaN"),
        (123456.789, "123456.789"),
    ],
)
def test_floating_point_number_is_written_as_in_go(value: float, text: str) -> None:
    inputs = LiteralMap(literals={"x": literal(float_value=value)})
    assert filled(["{{.inputs.x}}"], variables(inputs=inputs)) == [text]


def test_missing_input_is_named() -> None:
    with pytest.raises(TemplateError, match="needs the input 'gone'"):
        filled(["{{.inputs.gone}}"], variables())


def test_input_without_a_text_is_named() -> None:
    with pytest.raises(TemplateError, match="the input 'none' cannot be part of a command"):
        filled(["{{.inputs.none}}"], variables())


@pytest.mark.parametrize(("text", "uses"), [("{{.TaskTemplatePath}}", True), ("{{.input}}", False)])
def test_use_of_the_task_template_is_found(text: str, uses: bool) -> None:
    assert uses_task_template(["a", text]) is uses
