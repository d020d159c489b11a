"""Policy files: what they may say, and what is reported of a wrong one."""

import pytest

from services.contracts.authorization.policy import Binding, like_pattern, parse_policy
from services.contracts.authorization.roles import Role
from services.kit.errors import InvalidArgument
from services.kit.rpc.callers import ANONYMOUS, Caller

POLICY = """
bindings:
  - role: contributor
    claims:
      groups: [data, ml]
    projects: [flytesnacks, "team-*"]
    domains: [development]
  - role: engine
    clients: [flytepropeller]
    projects: ["*"]
"""


def bound(**fields: object) -> Binding:
    return Binding.model_validate({"role": "viewer", "projects": ["*"], **fields})


def test_policy_is_read() -> None:
    contributor, engine = parse_policy(POLICY).bindings
    assert (contributor.role, contributor.claims, contributor.domains) == (
        Role.CONTRIBUTOR,
        {"groups": ["data", "ml"]},
        ["development"],
    )
    assert (engine.role, list(engine.clients), list(engine.domains)) == (Role.ENGINE, ["flytepropeller"], ["*"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file: "),
        ("bindings: 5", "bindings: "),
        ("{}", "bindings: Field required"),
        ("bindings: []\nrules: []", "rules: Extra inputs are not permitted"),
        ("bindings: [{role: owner, everyone: true, projects: [a]}]", "bindings.0.role: "),
        ("bindings: [{role: admin, everyone: true}]", "bindings.0.projects: Field required"),
        ("bindings: [{role: admin, everyone: true, projects: []}]", "bindings.0.projects: "),
        ("bindings: [{role: admin, everyone: true, projects: [no]}]", "bindings.0.projects.0: "),
        ("bindings: [{role: admin, everyone: true, projects: ['[ab]']}]", "bindings.0.projects.0: "),
        ("bindings: [{role: admin, projects: [a]}]", "bindings.0: "),
        ("bindings: [{role: admin, everyone: true, subjects: [a], projects: [a]}]", "bindings.0: "),
        ("bindings: [{role: admin, subjects: [''], projects: [a]}]", "bindings.0.subjects.0: "),
        ("bindings: [{role: admin, subjects: ann, projects: [a]}]", "bindings.0.subjects: "),
        ("bindings: [{role: admin, claims: {groups: []}, projects: [a]}]", "bindings.0.claims.groups: "),
        ("bindings: [{role: admin, claims: {groups: x}, projects: [a]}]", "bindings.0.claims.groups: "),
        ("bindings: []\nbindings: []", "no YAML: line 1: 'bindings' stands here twice"),
        ("bindings: [{role: admin, role: viewer}]", "no YAML: line 1: 'role' stands here twice"),
        ("bindings: [", "no YAML: "),
        ("a: &a [*a]\nbindings: !!python/object:os.system x", "no YAML: "),
        ("[" * 3000, "no YAML: "),
    ],
)
def test_wrong_policy_is_refused_by_the_path_of_its_fault(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_policy(text)
    assert message in refused.value.message


@pytest.mark.parametrize(
    ("claims", "value", "matches"),
    [
        ({"groups": ["a"]}, {"groups": ["b", "a"]}, True),
        ({"groups": ["a", "b"]}, {"groups": "b"}, True),
        ({"groups": ["a"]}, {"groups": "a b"}, False),
        ({"groups": ["a"]}, {"groups": ["ab"]}, False),
        ({"groups": ["a"]}, {}, False),
        ({"groups": ["None"]}, {"groups": None}, False),
        ({"scope": ["all"]}, {"scope": "offline all"}, True),
        ({"verified": ["true"]}, {"verified": True}, True),
        ({"level": ["1"]}, {"level": 1}, True),
        ({"level": ["1"]}, {"level": True}, False),
        ({"realm_access.roles": ["flyte"]}, {"realm_access": {"roles": ["flyte"]}}, True),
        ({"https://a.b/roles": ["flyte"]}, {"https://a.b/roles": ["flyte"]}, True),
        ({"a.b": ["x"]}, {"a.b": "y", "a": {"b": "x"}}, False),
        ({"a.b": ["x"]}, {"a": "x"}, False),
        ({"groups": ["a"], "team": ["t"]}, {"groups": ["a"]}, False),
        ({"groups": ["a"], "team": ["t"]}, {"groups": ["a"], "team": "t"}, True),
    ],
)
def test_claims_match_by_one_of_their_values_each(claims: object, value: dict[str, object], matches: bool) -> None:
    assert bound(claims=claims).matches(Caller("ann", "flytectl", value)) is matches


def test_conditions_are_all_to_be_met() -> None:
    both = bound(clients=["flytectl"], subjects=["ann"])
    assert both.matches(Caller("ann", "flytectl"))
    assert not both.matches(Caller("ann", "console"))
    assert not both.matches(Caller("bob", "flytectl"))


def test_everyone_is_every_known_caller() -> None:
    assert bound(everyone=True).matches(Caller("ann"))
    assert bound(everyone=True).matches(Caller("", "flytepropeller"))
    assert not bound(everyone=True).matches(ANONYMOUS)
    assert not bound(subjects=["ann"]).matches(ANONYMOUS)


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("flytesnacks", ["flytesnacks"], ["flytesnacks2", "Flytesnacks", "", "flytesnacks\n"]),
        ("team-*", ["team-", "team-a", "team-a-b"], ["team", "a-team-", ""]),
        ("a?c", ["abc", "a-c"], ["ac", "abbc", ""]),
        ("*", ["", "a", "a\nb"], []),
        ("a.c", ["a.c"], ["abc"]),
    ],
)
def test_patterns(pattern: str, matching: list[str], others: list[str]) -> None:
    binding = bound(projects=[pattern], everyone=True)
    assert [project for project in [*matching, *others] if binding.covers_project(project)] == matching


def test_patterns_of_sql_escape_what_is_special_there() -> None:
    assert like_pattern("a_b%*?\\") == "a\\_b\\%%_\\\\"
