"""Cluster resources: which attributes count for a project-domain, and what is applied again."""

import pytest
from flyteidl.admin.matchable_resource_pb2 import (
    ClusterResourceAttributes as Attributes,
)
from flyteidl.admin.matchable_resource_pb2 import MatchableAttributesConfiguration, MatchingAttributes

from services.projects.rules.cluster_resources.applied import Applied, AppliedKey, fingerprint
from services.projects.rules.cluster_resources.values import ClusterResourceAttributes, values_of
from services.projects.rules.cluster_resources.yaml_templates import Template

KEY = AppliedKey("fruit", "development", "aa_namespace.yaml")


def row(project: str, domain: str = "", workflow: str = "", **attributes: str) -> MatchableAttributesConfiguration:
    matching = MatchingAttributes(cluster_resource_attributes=Attributes(attributes=attributes))
    return MatchableAttributesConfiguration(project=project, domain=domain, workflow=workflow, attributes=matching)


ROWS = [
    row("fruit", "development", "wf", a="of a workflow"),
    row("fruit", "development", a="of the project-domain"),
    row("", "staging", a="of the domain"),
    row("fruit", "staging", a="of a later row"),
    row("fruit", a="of the project", b="of the project"),
    row("", a="of all"),
]


@pytest.mark.parametrize(
    ("project", "domain", "expected"),
    [
        ("fruit", "development", {"a": "of the project-domain"}),
        ("fruit", "staging", {"a": "of the domain"}),
        ("fruit", "production", {"a": "of the project", "b": "of the project"}),
        ("other", "staging", {"a": "of the domain"}),
        ("other", "production", {"a": "of all"}),
    ],
)
def test_most_specific_attributes_count_whole(project: str, domain: str, expected: dict[str, str]) -> None:
    assert ClusterResourceAttributes(ROWS).of(project, domain) == expected


def test_project_domains_without_attributes_have_none() -> None:
    assert ClusterResourceAttributes([ROWS[0]]).of("fruit", "development") == {}


def test_templates_are_due_until_they_are_applied_and_again_after_the_time() -> None:
    applied = Applied(again_seconds=10)
    assert applied.is_due(KEY, b"1", now=0.0)
    assert applied.is_due(KEY, b"1", now=1.0)  # it failed
    applied.add(KEY, b"1", now=1.0)
    assert not applied.is_due(KEY, b"1", now=10.9)
    assert applied.is_due(KEY, b"1", now=11.0)


def test_templates_are_due_when_their_content_changes() -> None:
    applied = Applied(again_seconds=10)
    applied.add(KEY, b"1", now=0.0)
    assert applied.is_due(KEY, b"2", now=1.0)
    assert applied.is_due(KEY._replace(domain="staging"), b"1", now=1.0)


def test_fingerprints_differ_with_text_and_values_alone() -> None:
    def of(text: str = "t", name: str = "n", **values: str) -> bytes:
        own = values.pop("namespace", "ns")
        return fingerprint(Template(name, text), values_of("p", "d", own, attributes=values, settings={"x": "y"}))

    assert of(a="1", b="2") == of(b="2", a="1") == of(name="other", a="1", b="2")
    different = [of(), of("u"), of(a="1"), of(a="2"), of(b="1"), of(namespace="other")]
    assert len(set(different)) == len(different)
