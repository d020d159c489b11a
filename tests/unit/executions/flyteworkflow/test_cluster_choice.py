"""The cluster of an execution: labels, weights, the same choice for the same name (engine.md#clusters)."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executions.rules.flyteworkflow import choose_cluster
from services.kit.errors import Internal, Unavailable

CLUSTERS = {"a": True, "b": True, "c": True, "off": False}
WEIGHTS = {"gpu": {"c": 1.0}, "mixed": {"a": 0.2, "b": 0.8}, "stopped": {"off": 1.0}, "zeros": {"a": 0.0, "b": 0.0}}
NAMES = [f"a{number:03d}" for number in range(2000)]


def chosen(label: str, default_label: str = "", clusters: dict[str, bool] | None = None) -> Counter[str]:
    """Return how many of NAMES each cluster gets."""
    known = CLUSTERS if clusters is None else clusters
    return Counter(
        choose_cluster(name, label, clusters=known, weights=WEIGHTS, default_label=default_label) for name in NAMES
    )


def test_without_clusters_there_is_one_and_no_label_for_it() -> None:
    assert choose_cluster("exec", "", clusters={}, weights={}) == ""
    with pytest.raises(Internal, match=r"execution cluster label \[gpu\]"):
        choose_cluster("exec", "gpu", clusters={}, weights={})


def test_no_enabled_cluster_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="no cluster is enabled"):
        choose_cluster("exec", "", clusters={"off": False}, weights=WEIGHTS)


def test_label_selects_its_clusters() -> None:
    assert set(chosen("gpu")) == {"c"}
    assert set(chosen("mixed")) == {"a", "b"}


@pytest.mark.parametrize("label", ["", "unknown", "stopped"])
def test_label_without_an_enabled_cluster_is_the_default_label_else_all(label: str) -> None:
    assert set(chosen(label, default_label="gpu")) == {"c"}
    assert set(chosen(label, default_label="stopped")) == {"a", "b", "c"}
    assert set(chosen(label)) == {"a", "b", "c"}


def test_clusters_get_executions_by_weight() -> None:
    # Four standard deviations of 2,000 draws are 3.6 % of them.
    assert chosen("mixed")["a"] / len(NAMES) == pytest.approx(0.2, abs=0.036)
    equal = chosen("")
    assert all(count / len(NAMES) == pytest.approx(1 / 3, abs=0.043) for count in equal.values())


def test_weights_of_zero_count_only_if_all_are_zero() -> None:
    weights = {"l": {"a": 0.0, "b": 0.1}}
    assert {choose_cluster(name, "l", clusters=CLUSTERS, weights=weights) for name in NAMES} == {"b"}
    assert chosen("zeros")["a"] / len(NAMES) == pytest.approx(0.5, abs=0.045)


def test_executions_stay_when_another_cluster_is_disabled() -> None:
    less = CLUSTERS | {"c": False}
    for name in NAMES:
        before = choose_cluster(name, "", clusters=CLUSTERS, weights={})
        after = choose_cluster(name, "", clusters=less, weights={})
        assert before in {after, "c"}


@given(
    st.text(min_size=1),
    st.dictionaries(st.text(min_size=1, max_size=3), st.booleans(), min_size=1, max_size=5),
    st.dictionaries(st.text(max_size=2), st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=4), max_size=3),
    st.text(max_size=2),
    st.text(max_size=2),
)
def test_choice_is_an_enabled_cluster_and_the_same_in_any_order(
    name: str, clusters: dict[str, bool], weights: dict[str, dict[str, float]], label: str, default_label: str
) -> None:
    if not any(clusters.values()):
        clusters = dict.fromkeys(clusters, True)
    choice = choose_cluster(name, label, clusters=clusters, weights=weights, default_label=default_label)
    assert clusters[choice]
    backwards = {key: dict(reversed(of.items())) for key, of in reversed(weights.items())}
    again = choose_cluster(
        name, label, clusters=dict(reversed(clusters.items())), weights=backwards, default_label=default_label
    )
    assert again == choice
