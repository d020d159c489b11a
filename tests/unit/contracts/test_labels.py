"""Labels (projects.md 7)."""

import pytest

from services.contracts.labels import check_labels
from services.kit.errors import InvalidArgument

RIGHT: list[dict[str, str]] = [
    {},
    {"a": ""},
    {"A.b_c-1": "Some.Value_1-2"},
    {"example.com/name": "x"},
    {"a" * 63: "b" * 63},
    {"a" * 253 + "/b": "c"},
    {f"k{i}": "v" for i in range(16)},
]


@pytest.mark.parametrize("labels", RIGHT)
def test_what_kubernetes_takes_passes(labels: dict[str, str]) -> None:
    check_labels(labels)


WRONG = [
    ({f"k{i}": "v" for i in range(17)}, "labels map cannot exceed 16 entries"),
    ({"a": "#bar"}, "invalid label value [#bar]: [a valid label must be an empty string or consist of"),
    ({"a": "b" * 64}, f"invalid label value [{'b' * 64}]: [must be no more than 63 characters"),
    ({"a": "b\n"}, "invalid label value [b\n]: ["),
    ({"a": "-b"}, "invalid label value [-b]: ["),
    ({"": "v"}, "invalid label key []: [name part must be non-empty"),
    ({"ä": "v"}, "invalid label key [ä]: [name part must consist of"),
    ({"a" * 64: "v"}, f"invalid label key [{'a' * 64}]: [name part must be no more than 63 characters"),
    ({"/a": "v"}, "invalid label key [/a]: [prefix part must be non-empty"),
    ({"a/": "v"}, "invalid label key [a/]: [name part must be non-empty"),
    ({"A/b": "v"}, "invalid label key [A/b]: [prefix part a lowercase RFC 1123 subdomain"),
    ({"a/b/c": "v"}, "invalid label key [a/b/c]: [a qualified name must consist of"),
    ({"a" * 254 + "/b": "v"}, f"invalid label key [{'a' * 254}/b]: [prefix part must be no more than 253"),
    ({"z": "#", "a": "$"}, "invalid label value [$]: ["),
]


@pytest.mark.parametrize(("labels", "message"), WRONG, ids=range(len(WRONG)))
def test_the_first_bad_label_in_order_of_keys_is_told(labels: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_labels(labels)
    assert refused.value.message.startswith(message)
