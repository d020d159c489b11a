"""Labels of projects, launch plans and executions become labels of Kubernetes objects and obey their rules.

projects.md, section 7. Annotations are never checked.
"""

import re
from collections.abc import Mapping

from services.kit.errors import InvalidArgument

MAX_ENTRIES = 16
# Kubernetes' own bounds: the name part of a key and a value, and the domain prefix of a key.
MAX_NAME_CHARACTERS = 63
MAX_PREFIX_CHARACTERS = 253

_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]", re.ASCII)
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)

_BAD_VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue' or 'my_value', regex used for validation is "
    f"'({_NAME.pattern})?')"
)
_BAD_NAME = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    f"character (e.g. 'MyName' or 'my.name', regex used for validation is '{_NAME.pattern}')"
)
_BAD_PREFIX = (
    "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and "
    f"must start and end with an alphanumeric character (e.g. 'example.com', regex used is '{_SUBDOMAIN.pattern}')"
)
_NOT_QUALIFIED = (
    "a qualified name must consist of an optional DNS subdomain prefix and '/' and a name (e.g. 'example.com/MyName')"
)


def check_labels(labels: Mapping[str, str]) -> None:
    """Raise InvalidArgument unless there are at most 16 labels, each a Kubernetes qualified name and label value.

    The entries are looked at in the order of their keys, so that the same labels always give the same answer.
    """
    if len(labels) > MAX_ENTRIES:
        raise InvalidArgument(f"labels map cannot exceed {MAX_ENTRIES} entries")
    for key, value in sorted(labels.items()):
        if reasons := _key_faults(key):
            raise InvalidArgument(f"invalid label key [{key}]: [{' '.join(reasons)}]")
        if reasons := _value_faults(value):
            raise InvalidArgument(f"invalid label value [{value}]: [{' '.join(reasons)}]")


def _key_faults(key: str) -> list[str]:
    prefix, slash, name = key.rpartition("/")
    if "/" in prefix:
        return [_NOT_QUALIFIED]
    faults = []
    if slash and not prefix:
        faults.append("prefix part must be non-empty")
    elif slash and len(prefix) > MAX_PREFIX_CHARACTERS:
        faults.append(f"prefix part must be no more than {MAX_PREFIX_CHARACTERS} characters")
    elif slash and not _SUBDOMAIN.fullmatch(prefix):
        faults.append(_BAD_PREFIX)
    if not name:
        faults.append("name part must be non-empty")
    elif len(name) > MAX_NAME_CHARACTERS:
        faults.append(f"name part must be no more than {MAX_NAME_CHARACTERS} characters")
    elif not _NAME.fullmatch(name):
        faults.append(_BAD_NAME)
    return faults


def _value_faults(value: str) -> list[str]:
    faults = []
    if len(value) > MAX_NAME_CHARACTERS:
        faults.append(f"must be no more than {MAX_NAME_CHARACTERS} characters")
    if value and not _NAME.fullmatch(value):
        faults.append(_BAD_VALUE)
    return faults
