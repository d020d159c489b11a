"""Unique ids of nodes, and names of child executions and of attempts (engine.md#node-ids)."""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz123456"
# (offset basis, prime) of FNV-1a, by bits.
_FNV: Final = {32: (0x811C9DC5, 0x01000193), 64: (0xCBF29CE484222325, 0x100000001B3)}
# Kubernetes allows 63 characters in labels; flytepropeller leaves the rest of them for prefixes and suffixes.
_MOST_ID_LENGTH: Final = 20
_MOST_GENERATED_LENGTH: Final = 50
# What may be a part of any path and URI as it is; the compiler accepts any text as the id of a node. File systems allow
# 255 bytes, and some names get suffixes.
_PATH_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}")
_HASHED_LENGTH: Final = 32


@dataclass(frozen=True)
class Parent:
    """The node in which other nodes run, and its attempt."""

    node_id: str
    attempt: int


def unique_id(parent: Parent | None, spec_id: str) -> str:
    """Return the unique id of the node `spec_id` of a template, below `parent`."""
    return _shortened(f"{parent.node_id}-{parent.attempt}-{spec_id}", _MOST_ID_LENGTH, 32) if parent else spec_id


def child_name(execution: str, node_id: str, attempt: int) -> str:
    """Return the name of the child execution of a launch plan node."""
    return _shortened(f"{execution}-{node_id}-{attempt}", _MOST_ID_LENGTH, 64)


def generated_name(execution: str, node_id: str, attempt: int) -> str:
    """Return the name of an attempt, as a pod would have it."""
    return _shortened(f"{execution}-{node_id}-{attempt}", _MOST_GENERATED_LENGTH, 32)


def path_name(node_id: str) -> str:
    """Return a unique id as a part of paths: as it is, or its hash if it has other characters than names have."""
    if _PATH_NAME.fullmatch(node_id):
        return node_id
    return f"node.{hashlib.sha256(node_id.encode()).hexdigest()[:_HASHED_LENGTH]}"


def raw_outputs(node_id: str, attempt: int, index: int = -1) -> str:
    """Return the folder of an attempt's raw outputs below those of its execution.

    Args:
        node_id: the unique id of the node.
        attempt: of the node's task, or of the task of an item.
        index: of the item of an array node, else -1.
    """
    item = "" if index < 0 else f"n{index}/"
    return f"{path_name(node_id)}/{item}{attempt}"


def _shortened(text: str, most: int, bits: int) -> str:
    return text if len(text) <= most else "f" + _base32(_fnv1a(text.encode(), bits).to_bytes(bits // 8))


def _fnv1a(data: bytes, bits: int) -> int:
    value, prime = _FNV[bits]
    for byte in data:
        value = (value ^ byte) * prime & ((1 << bits) - 1)
    return value


def _base32(data: bytes) -> str:
    digits = "".join(f"{byte:08b}" for byte in data)
    padded = digits + "0" * (-len(digits) % 5)
    return "".join(_ALPHABET[int(padded[start : start + 5], 2)] for start in range(0, len(padded), 5))
