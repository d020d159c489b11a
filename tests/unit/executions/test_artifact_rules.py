"""flyte:// URLs (executions.md#getdata)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.flyte_urls import Artifact, parse
from services.executions.rules.data import node_urls, task_urls
from services.kit.errors import InvalidArgument
from tests.support.executions import node_id, task_id

BASE = "flyte://v1/flytesnacks/development/e"


@pytest.mark.parametrize(
    ("rest", "kind", "attempt", "literal"),
    [
        ("n0/i", "i", None, ""),
        ("n0/o", "o", None, ""),
        ("n0/d", "d", None, ""),
        ("n0/0/i", "i", 0, ""),
        ("n0/12/o", "o", 12, ""),
        ("n0/o/o0", "o", None, "o0"),
        ("n0/i/i", "i", None, "i"),
        ("n0/3/o/o-_0", "o", 3, "o-_0"),
    ],
)
def test_url_parses_to_a_node_or_an_attempt_and_a_kind_of_data(
    rest: str, kind: str, attempt: int | None, literal: str
) -> None:
    node = node_id("e", "n0")
    assert parse(f"{BASE}/{rest}") == Artifact(node, kind, attempt, literal)


def test_url_may_have_a_number_as_node() -> None:
    assert parse(f"{BASE}/7/i") == Artifact(node_id("e", "7"), "i")
    assert parse(f"{BASE}/7/1/i") == Artifact(node_id("e", "7"), "i", 1)


def test_urls_in_responses_can_be_parsed() -> None:
    node, task = node_id("e", "n0"), task_id("e", "n0")
    urls = node_urls(node, deck=True)
    assert [parse(url).kind for url in (urls.inputs, urls.outputs, urls.deck)] == ["i", "o", "d"]
    assert parse(task_urls(task).outputs) == Artifact(task.node_execution_id, "o", task.retry_attempt)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "failed to validate resolve artifact request"),
        ("s3://bucket/key", "failed to validate resolve artifact request"),
        ("xflyte://v1/p/d/e/n0/i", "failed to validate resolve artifact request"),
        ("flyte://", "failed to parse artifact url"),
        ("flyte://v2/p/d/e/n0/i", "failed to parse artifact url"),
        ("flyte://v1/p/d/e/i", "failed to parse artifact url"),
        ("flyte://v1/p/d/e/n0/x", "failed to parse artifact url"),
        ("flyte://v1/p/d/e/n0/i/", "failed to parse artifact url"),
        ("flyte://v1/p/d/e/n0/d/x", "failed to parse artifact url"),
        ("flyte://v1/p.q/d/e/n0/i", "failed to parse artifact url"),
        ("flyte://v1/p/d/é/n0/i", "failed to parse artifact url"),
        ("flyte://v1/p/d/e/n0/i\n", "failed to parse artifact url"),
        ("flyte://v1/p/d/e/n0/9999999999/i", "failed to parse artifact url"),
        ("flyte://v1/p/d/e/n0/0/d", "deck type cannot be specified with a retry attempt"),
    ],
)
def test_invalid_url_is_refused(url: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        parse(url)


@given(st.text() | st.from_regex(r"flyte://[a-z0-9/_.-]{0,40}"))
def test_any_text_is_parsed_or_refused(url: str) -> None:
    try:
        artifact = parse(url)
    except InvalidArgument:
        return
    assert artifact.node.node_id in url
