"""Checks of labels and annotations, which become those of Kubernetes objects (common.md#labels).

Rules and error messages are those of `k8s.io/apimachinery/pkg/util/validation`, release 0.34, word for word: lengths
are in bytes, and a message lists everything that is wrong with a name.
"""

import re
from collections.abc import Mapping

from services.kit.errors import InvalidArgument

MAX_ENTRIES = 16
# Kubernetes' limits: the name part of a key and a value, the domain prefix of a key, all annotations together.
MAX_NAME_BYTES = 63
MAX_SUBDOMAIN_BYTES = 253
MAX_ANNOTATIONS_BYTES = 256 * 1024

_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]", re.ASCII)
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_DNS_SUBDOMAIN = re.compile(rf"{_DNS_LABEL.pattern}(\.{_DNS_LABEL.pattern})*", re.ASCII)

# Kubernetes writes a comma and two spaces between examples.
_BAD_LABEL_VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    f"'({_NAME.pattern})?')"
)
_BAD_NAME = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    f"(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_NAME.pattern}')"
)
_NOT_QUALIFIED = (
    f"a qualified name {_BAD_NAME} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
)
_BAD_DNS_LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    f"an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_DNS_LABEL.pattern}')"
)
_BAD_DNS_SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    f"'{_DNS_SUBDOMAIN.pattern}')"
)


def check_labels(labels: Mapping[str, str]) -> None:
    """Raise InvalidArgument unless there are at most 16 labels, each a Kubernetes qualified name and label value.

    Entries are checked in the order of their keys: the same labels always give the same message.
    """
    if len(labels) > MAX_ENTRIES:
        raise InvalidArgument(f"labels map cannot exceed {MAX_ENTRIES} entries")
    for key, value in sorted(labels.items()):
        if reasons := _qualified_name_faults(key):
            raise InvalidArgument(f"invalid label key [{key}]: [{' '.join(reasons)}]")
        if reasons := _value_faults(value):
            raise InvalidArgument(f"invalid label value [{value}]: [{' '.join(reasons)}]")


def check_annotations(annotations: Mapping[str, str]) -> None:
    """Raise InvalidArgument unless all fit into one object, and each key is a qualified name, in any case.

    Values may be any text. The size is checked first, as checking keys takes longer.
    """
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > MAX_ANNOTATIONS_BYTES:
        raise InvalidArgument(f"annotations size {size} is larger than limit {MAX_ANNOTATIONS_BYTES}")
    for key in sorted(annotations):
        if reasons := _qualified_name_faults(key.lower()):
            raise InvalidArgument(f"invalid annotation key [{key}]: [{' '.join(reasons)}]")


def dns_label_faults(name: str) -> list[str]:
    """Return what is wrong with `name` as a DNS-1123 label, such as the name of a namespace."""
    faults = _too_long(name, MAX_NAME_BYTES)
    if not _DNS_LABEL.fullmatch(name):
        faults.append("must not contain dots" if _DNS_SUBDOMAIN.fullmatch(name) else _BAD_DNS_LABEL)
    return faults


def dns_subdomain_faults(name: str) -> list[str]:
    """Return what is wrong with `name` as a DNS-1123 subdomain, such as the name of most objects."""
    faults = _too_long(name, MAX_SUBDOMAIN_BYTES)
    if not _DNS_SUBDOMAIN.fullmatch(name):
        faults.append(_BAD_DNS_SUBDOMAIN)
    return faults


def _qualified_name_faults(key: str) -> list[str]:
    prefix, slash, name = key.rpartition("/")
    if "/" in prefix:
        return [_NOT_QUALIFIED]
    faults = []
    if slash and not prefix:
        faults.append("prefix part must be non-empty")
    elif slash:
        faults.extend(f"prefix part {fault}" for fault in dns_subdomain_faults(prefix))
    of_name = _too_long(name, MAX_NAME_BYTES) if name else ["must be non-empty"]
    if not _NAME.fullmatch(name):
        of_name.append(_BAD_NAME)
    return faults + [f"name part {fault}" for fault in of_name]


def _value_faults(value: str) -> list[str]:
    faults = _too_long(value, MAX_NAME_BYTES)
    if value and not _NAME.fullmatch(value):
        faults.append(_BAD_LABEL_VALUE)
    return faults


def _too_long(text: str, most: int) -> list[str]:
    return [f"must be no more than {most} characters"] if len(text.encode()) > most else []
