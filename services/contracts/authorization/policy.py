"""The policy: a YAML file that binds roles to callers (docs/authorization.md#policy)."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import translate
from functools import cached_property
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from yaml.nodes import MappingNode

from services.contracts.authorization.roles import Role
from services.kit.errors import InvalidArgument
from services.kit.rpc.callers import Caller

NonEmpty = Annotated[str, StringConstraints(min_length=1)]
# Brackets would be character classes, which no project needs and few readers know.
Pattern = Annotated[str, StringConstraints(pattern=r"^[^\[\]]+$")]

# Claims of OAuth that are one text of several values (RFC 8693, section 4.2).
_BY_SPACES = frozenset({"scope", "scp"})


class Binding(BaseModel):
    """Gives a role in some project-domains to the callers that meet every condition of the binding."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role
    claims: Mapping[NonEmpty, Annotated[Sequence[NonEmpty], Field(min_length=1)]] = Field(default_factory=dict)
    """Values by the name of a claim: the caller's claim has one of them, for each name."""
    clients: Sequence[NonEmpty] = ()
    """Ids of OAuth clients: the caller's token is for one of them."""
    subjects: Sequence[NonEmpty] = ()
    """The caller is one of them."""
    everyone: bool = False
    """Every caller whose token is valid, instead of conditions."""
    projects: Annotated[Sequence[Pattern], Field(min_length=1)]
    """Ids of projects, with * for any text and ? for any character."""
    domains: Annotated[Sequence[Pattern], Field(min_length=1)] = ("*",)
    """Ids of domains, written the same way."""

    @model_validator(mode="after")
    def _conditions(self) -> Self:
        if bool(self.claims or self.clients or self.subjects) == self.everyone:
            raise ValueError("a binding needs claims, clients or subjects, or everyone: true instead")
        return self

    def matches(self, caller: Caller) -> bool:
        """Return whether `caller` has the role of this binding; an anonymous caller never has."""
        if self.everyone:
            return bool(caller.subject or caller.client)
        return (
            (not self.clients or caller.client in self.clients)
            and (not self.subjects or caller.subject in self.subjects)
            and all(not set(values).isdisjoint(_values(caller.claims, name)) for name, values in self.claims.items())
        )

    def covers_project(self, project: str) -> bool:
        """Return whether the binding applies in some domain of `project`; "" is every project at once."""
        return bool(self._projects.fullmatch(project))

    def covers(self, project: str, domain: str) -> bool:
        """Return whether the binding applies in `domain` of `project`; "" is all of them at once.

        Only patterns of nothing but asterisks match "", and those match everything.
        """
        return self.covers_project(project) and bool(self._domains.fullmatch(domain))

    @cached_property
    def _projects(self) -> re.Pattern[str]:
        return _any_of(self.projects)

    @cached_property
    def _domains(self) -> re.Pattern[str]:
        return _any_of(self.domains)


class Policy(BaseModel):
    """All bindings. A caller may do what one of them allows, and nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bindings: Sequence[Binding]


class _Loader(yaml.SafeLoader):
    """Refuses a key that a mapping has twice: the first of two lists of bindings would be lost."""


def _mapping(loader: _Loader, node: MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for key in keys:
        if not isinstance(key, str):
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {key!r} is no name")
        if keys.count(key) > 1:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {key!r} stands here twice")
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def parse_policy(text: str) -> Policy:
    """Return the policy of a file's text; raise InvalidArgument, which names everything that is wrong by its path."""
    try:
        return Policy.model_validate(yaml.load(text, _Loader))  # noqa: S506  # a safe loader
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg']}" for fault in error.errors())
        raise InvalidArgument(f"wrong authorization policy: {'; '.join(faults)}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidArgument(f"wrong authorization policy: no YAML: {' '.join(str(error).split())}") from None


def like_pattern(pattern: str) -> str:
    """Return a pattern of projects or domains as SQL's LIKE has it."""
    escaped = re.sub(r"([%_\\])", r"\\\1", pattern)
    return escaped.replace("*", "%").replace("?", "_")


def _any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)))


def _values(claims: Mapping[str, Any], name: str) -> set[str]:
    """Return the values of a claim as texts; a name with dots that no claim has leads into objects of claims."""
    value: Any = claims.get(name)
    if name not in claims:
        value = claims
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    if name in _BY_SPACES and isinstance(value, str):
        return set(value.split())
    items = value if isinstance(value, list | tuple) else [value]
    return {text for item in items if (text := _text(item)) is not None}


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) else None
