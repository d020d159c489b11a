"""Templates of cluster resources: what their placeholders become, and what a caller's value cannot do."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.kit.errors import InvalidArgument
from services.projects.rules.cluster_resources.values import Values, values_of
from services.projects.rules.cluster_resources.yaml_templates import Template, render

NAMESPACE = """\
apiVersion: v1
kind: Namespace
metadata:
  name: {{ namespace }}
spec:
  finalizers:
  - kubernetes
"""
QUOTA = """\
apiVersion: v1
kind: ResourceQuota
metadata:
  name: project-quota
  namespace: {{ namespace }}
spec:
  hard:
    limits.cpu: {{ projectQuotaCpu }}
    limits.memory: {{ projectQuotaMemory }}
"""
OBJECT = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: n\n"


def values(attributes: Mapping[str, str] | None = None, settings: Mapping[str, str] | None = None) -> Values:
    return values_of("fruit", "development", "fruit-development", attributes=attributes or {}, settings=settings or {})


def data(text: str, given_values: Values) -> Any:
    """Return `data` of a ConfigMap, written as `text`."""
    (item,) = render(Template("t.yaml", f"{OBJECT}data: {text}\n"), given_values)
    return item["data"]


def test_templates_of_flyteadmin_become_its_objects() -> None:
    quota = values(settings={"projectQuotaCpu": "4", "projectQuotaMemory": "3000Mi"})
    assert render(Template("aa_namespace.yaml", NAMESPACE), quota) == [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": "fruit-development"},
            "spec": {"finalizers": ["kubernetes"]},
        }
    ]
    (resource,) = render(Template("ab_project_resource_quota.yaml", QUOTA), quota)
    assert resource["metadata"] == {"name": "project-quota", "namespace": "fruit-development"}
    assert resource["spec"]["hard"] == {"limits.cpu": 4, "limits.memory": "3000Mi"}


def test_documents_of_a_template_become_objects_in_order_and_empty_ones_none() -> None:
    text = f"---\n# nothing\n---\n{NAMESPACE}---\n{OBJECT}"
    assert [item["kind"] for item in render(Template("t.yaml", text), values())] == ["Namespace", "ConfigMap"]


@pytest.mark.parametrize(
    ("attributes", "settings", "expected"),
    [
        ({}, {"key": "settings"}, "settings"),
        ({"key": "attributes"}, {"key": "settings"}, "attributes"),
        ({"other": "x"}, {"key": "settings"}, "settings"),
    ],
)
def test_attributes_go_before_settings(attributes: dict[str, str], settings: dict[str, str], expected: str) -> None:
    assert data("{a: x {{ key }} y}", values(attributes, settings)) == {"a": f"x {expected} y"}


@pytest.mark.parametrize("reserved", ["project", "domain", "namespace"])
def test_reserved_keys_in_attributes_have_no_effect(reserved: str) -> None:
    stolen = values({reserved: "another"})
    own = {"project": "fruit", "domain": "development", "namespace": "fruit-development"}
    assert data(f"{{a: {{{{ {reserved} }}}}}}", stolen) == {"a": own[reserved]}


@pytest.mark.parametrize("form", ["{{ key }}", "{{key}}", "{{  key\t}}"])
def test_blanks_in_braces_do_not_matter(form: str) -> None:
    assert data(f"{{a: {form}}}", values(settings={"key": "v"})) == {"a": "v"}


def test_placeholders_in_values_stay() -> None:
    once = values({"a": "{{ b }}"}, {"b": "'{{ c }}'"})
    assert data("{x: {{ a }}, y: {{ b }}}", once) == {"x": "{{ b }}", "y": "{{ c }}"}


@pytest.mark.parametrize("origin", ["attributes", "settings"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("4", 4),
        ("0.5", 0.5),
        ("500m", "500m"),
        ("4Gi", "4Gi"),
        ("true", True),
        ("", None),
        ("1:30", "1:30"),
        ("2026-01-02", "2026-01-02"),
        ("arn:aws:iam::1234:role/x", "arn:aws:iam::1234:role/x"),
    ],
)
def test_plain_values_have_the_type_that_their_text_has(origin: str, value: str, expected: object) -> None:
    given_values = values(**{origin: {"key": value}})
    assert data("\n  a: {{ key }}", given_values) == {"a": expected}
    assert data('{a: "{{ key }}"}', given_values) == {"a": value}


def test_project_ids_of_digits_are_texts() -> None:
    numbered = values_of("0123", "development", "0123", attributes={}, settings={})
    assert data("{a: {{ project }}, b: {{ namespace }}}", numbered) == {"a": "0123", "b": "0123"}


def test_operators_may_set_lists_and_blocks() -> None:
    assert data("{a: {{ key }}}", values(settings={"key": "[{name: x}, {name: y}]"})) == {
        "a": [{"name": "x"}, {"name": "y"}]
    }


HOSTILE = (
    st.text(st.sampled_from(list("ab01 \n\r\t:#-'\"{}[],&*!|>%@\\\ue000\ue001\x85\u2028")), max_size=12) | st.text()
)
TEMPLATE = Template(
    "t.yaml",
    OBJECT + "data:\n  plain: {{ key }}\n  quoted: \"a {{ key }} b\"\n  single: '{{ key }}'\n"
    "  flow: [x, {{ key }}, y]\n  # {{ key }}\n  block: |\n    1 {{ key }}\n    2\n  last: end\n",
)


@given(HOSTILE)
def test_values_of_callers_stay_one_scalar_whatever_they_are(value: str) -> None:
    """No value of an attribute changes the shape of an object, and none is lost."""
    (item,) = render(TEMPLATE, values({"key": value}))
    content = item.pop("data")
    assert item == yaml.safe_load(OBJECT)
    assert content.keys() == {"plain", "quoted", "single", "flow", "block", "last"}
    assert content["quoted"] == f"a {value} b"
    assert content["single"] == value
    assert content["block"] == f"1 {value}\n2\n"
    assert content["last"] == "end"
    plain = content["plain"]
    assert plain == value or not isinstance(plain, str | list | dict)
    assert content["flow"] == ["x", plain, "y"]
    json.dumps(item, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{OBJECT}data: {{a: {{{{ b }}}}, c: {{{{ a }}}}}}", "template t.yaml: no value for a, b"),
        (f'{OBJECT}data: {{a: "{{{{ b }}}}"}}', "template t.yaml: no value for b"),
        ("a: [", "template t.yaml is no YAML: "),
        ("a: {b: c}: d", "template t.yaml is no YAML: "),
        ("[1, 2]", "template t.yaml: an object needs apiVersion, kind and metadata.name"),
        ("kind: Namespace\nmetadata: {name: x}", "template t.yaml: an object needs apiVersion"),
        ("apiVersion: v1\nkind: Namespace\nmetadata: [x]", "template t.yaml: an object needs apiVersion"),
        ("apiVersion: v1\nkind: Namespace\nmetadata: {name: 12}", "each a text"),
        (f"{OBJECT}data: &a [*a]", "template t.yaml is no YAML that JSON can express"),
        (f"{OBJECT}data: !!binary aGk=", "template t.yaml is no YAML that JSON can express"),
        (f"{OBJECT}data: !!python/object:os.system {{}}", "template t.yaml is no YAML: "),
        (f"{OBJECT}data: {{a: \ue0000\ue001}}", "template t.yaml has the character U+E000"),
    ],
)
def test_wrong_templates_are_refused_with_their_name(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        render(Template("t.yaml", text), values())
    assert message in refused.value.message


def test_refusals_do_not_contain_values() -> None:
    with pytest.raises(InvalidArgument) as refused:
        render(Template("t.yaml", f"{OBJECT}data: {{{{ key }}}}"), values(settings={"key": "[secret: secret: secret"}))
    assert "secret" not in refused.value.message
