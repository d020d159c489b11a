"""Templates of Kubernetes objects: YAML in which `{{ key }}` stands for a value (engine.md#templates).

Values of settings are part of the text, as in flyteadmin. Each of the others stays one scalar: whatever a caller sets
as an attribute, it changes no key, adds no list entry and ends no line of a template.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from services.kit.errors import InvalidArgument
from services.projects.rules.cluster_resources.values import Values

_PLACEHOLDER = re.compile(r"\{\{[ \t]*(?P<key>[^{}\s]+)[ \t]*\}\}")
# Around the number of a value while the template is parsed. YAML takes them for letters, and no template needs them:
# Unicode assigns them to no character.
_OPEN, _CLOSE = "\ue000", "\ue001"
_MARKED = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")
_TAG = "tag:yaml.org,2002:"


class _KubernetesLoader(yaml.CSafeLoader):
    """Reads YAML as Kubernetes does: dates and `1:30` are texts, `0644` is octal, `yes` and `on` are true."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # as PyYAML declares it


for _name, _pattern, _first in (
    ("bool", r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    ("int", r"[-+]?(?:0[0-7]*|[1-9][0-9]*|0x[0-9a-fA-F]+)", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", "<<", "<"),
):
    _KubernetesLoader.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), list(_first))


def _finite(loader: _KubernetesLoader, node: yaml.ScalarNode) -> float | str:
    """Return a number, or the text of one that JSON cannot express."""
    text = str(loader.construct_scalar(node))
    return float(text) if math.isfinite(float(text)) else text


_KubernetesLoader.add_constructor(f"{_TAG}float", _finite)


@dataclass(frozen=True)
class Template:
    """A file of templates; its name orders them and is in logs and metrics."""

    name: str
    text: str


def render(template: Template, values: Values) -> list[dict[str, Any]]:
    """Return the objects of a template, in the order of its documents; empty documents are left out.

    Raises:
        InvalidArgument: A placeholder has no value, or the text is no YAML of Kubernetes objects. The message has the
            template's name, and no values: they may be secrets.
    """
    if missing := {match["key"] for match in _PLACEHOLDER.finditer(template.text)} - values.keys:
        raise InvalidArgument(f"template {template.name}: no value for {', '.join(sorted(missing))}")
    scalars = [*({**values.attributes, **values.own}.items())]
    marks = {key: f"{_OPEN}{number}{_CLOSE}" for number, (key, _) in enumerate(scalars)}
    text = _PLACEHOLDER.sub(lambda match: marks.get(match["key"]) or values.settings[match["key"]], template.text)
    if text.count(_OPEN) > sum(match["key"] in marks for match in _PLACEHOLDER.finditer(template.text)):
        raise InvalidArgument(f"template {template.name} has the character U+E000, which is reserved")
    try:
        objects = list(_parse(text, [(value, key in values.own) for key, value in scalars]))
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InvalidArgument(f"template {template.name} is no YAML: {error.problem}{line}") from None
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"template {template.name} is no YAML that JSON can express") from error
    for item in objects:
        _check_object(template.name, item)
    return objects


def _parse(text: str, scalars: Sequence[tuple[str, bool]]) -> Iterator[dict[str, Any]]:
    """Yield the documents of `text` with `scalars` in place of their numbers; of each, whether it is always a text."""
    for node in yaml.compose_all(text, Loader=_KubernetesLoader):
        loader = _KubernetesLoader("")
        _insert(node, scalars, loader, set())
        document = loader.construct_document(node)
        if document is not None:
            yield json.loads(json.dumps(document, allow_nan=False))


def _insert(node: yaml.Node, scalars: Sequence[tuple[str, bool]], loader: _KubernetesLoader, seen: set[int]) -> None:
    """Replace the numbers of values in every scalar at and below `node`."""
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        used = [scalars[int(number)] for number in _MARKED.findall(node.value)]
        if used:
            node.value = _MARKED.sub(lambda match: scalars[int(match[1])][0], node.value)
            if not node.style and not any(is_text for _, is_text in used):
                # Not quoted: the value decides whether this is a number, as if it were written here.
                node.tag = loader.resolve(yaml.ScalarNode, node.value, (True, False))  # type: ignore[no-untyped-call]
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _insert(item, scalars, loader, seen)
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            for item in pair:
                _insert(item, scalars, loader, seen)


def _check_object(template: str, item: Any) -> None:
    fields = item if isinstance(item, dict) else {}
    metadata = fields["metadata"] if isinstance(fields.get("metadata"), dict) else {}
    texts = (fields.get("apiVersion"), fields.get("kind"), metadata.get("name"), metadata.get("namespace", "default"))
    if not all(isinstance(text, str) and text for text in texts):
        raise InvalidArgument(f"template {template}: an object needs apiVersion, kind and metadata.name, each a text")
