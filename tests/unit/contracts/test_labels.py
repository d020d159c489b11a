"""Labels and annotations (common.md#labels). Full messages are the output of apimachinery 0.34.1."""

import pytest

from services.contracts.labels import MAX_ANNOTATIONS_BYTES, check_annotations, check_labels, dns_label_faults
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
def test_labels_that_kubernetes_accepts_are_allowed(labels: dict[str, str]) -> None:
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
def test_first_bad_label_in_order_of_keys_is_reported(labels: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_labels(labels)
    assert refused.value.message.startswith(message)


NAME_RULE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
TEXTS = [
    ({"a b": "c"}, f"invalid label key [a b]: [name part {NAME_RULE}]"),
    ({"": "c"}, f"invalid label key []: [name part must be non-empty name part {NAME_RULE}]"),
    (
        {"/" + "a" * 63 + "-": "c"},
        (
            f"invalid label key [/{'a' * 63}-]: [prefix part must be non-empty name part must be no more than 63 "
            f"characters name part {NAME_RULE}]"
        ),
    ),
    (
        {"ä" * 32: "c"},
        f"invalid label key [{'ä' * 32}]: [name part must be no more than 63 characters name part {NAME_RULE}]",
    ),
    (
        {"A" * 254 + "/b": "c"},
        (
            f"invalid label key [{'A' * 254}/b]: [prefix part must be no more than 253 characters prefix part "
            f"{SUBDOMAIN_RULE}]"
        ),
    ),
    (
        {"a/b/c": "d"},
        (
            f"invalid label key [a/b/c]: [a qualified name {NAME_RULE} with an optional DNS subdomain prefix and '/' "
            "(e.g. 'example.com/MyName')]"
        ),
    ),
    ({"a": "#bar"}, f"invalid label value [#bar]: [{VALUE_RULE}]"),
    ({"a": "-" * 64}, f"invalid label value [{'-' * 64}]: [must be no more than 63 characters {VALUE_RULE}]"),
]


@pytest.mark.parametrize(("labels", "message"), TEXTS, ids=range(len(TEXTS)))
def test_label_errors_have_the_texts_of_kubernetes(labels: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_labels(labels)
    assert refused.value.message == message


def test_dns_label_with_dots_is_a_fault_of_its_own() -> None:
    assert dns_label_faults("a" * 63 + ".b") == ["must be no more than 63 characters", "must not contain dots"]


def test_annotations_have_any_value_and_keys_in_any_case() -> None:
    check_annotations({"Example.COM/Key_1": "#\n ä", "k": "v" * (MAX_ANNOTATIONS_BYTES - 24)})
    check_annotations({f"k{i}": "v" for i in range(100)})


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ({"a b": "c"}, f"invalid annotation key [a b]: [name part {NAME_RULE}]"),
        ({"B c": "", "A b": ""}, f"invalid annotation key [A b]: [name part {NAME_RULE}]"),
        ({"k": "ä" * (MAX_ANNOTATIONS_BYTES // 2)}, "annotations size 262145 is larger than limit 262144"),
        # Before the keys are checked, which takes longer.
        ({"": "ä" * (MAX_ANNOTATIONS_BYTES // 2), "-": "v"}, "annotations size 262146 is larger than limit 262144"),
    ],
)
def test_annotations_that_kubernetes_refuses_are_invalid_argument(annotations: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_annotations(annotations)
    assert refused.value.message == message
