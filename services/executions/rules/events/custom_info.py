"""Merge of the plugin's own information in the events of an attempt (events.md#custom-info)."""

from google.protobuf.struct_pb2 import Struct


def merge_patch(stored: Struct, patch: Struct, *, present: bool) -> None:
    """Patch `stored` in place by RFC 7386: null members delete, structs merge, everything else replaces.

    Without a stored value (`present` is false) the patch is copied as it is, with its nulls.
    """
    if not present:
        stored.CopyFrom(patch)
        return
    _patch(stored, patch)


def _patch(target: Struct, patch: Struct) -> None:
    for name, value in patch.fields.items():
        kind = value.WhichOneof("kind")
        if kind in {"null_value", None}:
            target.fields.pop(name, None)
        elif kind == "struct_value":
            member = target.fields[name]
            if member.WhichOneof("kind") != "struct_value":
                member.struct_value.Clear()
                member.struct_value.SetInParent()
            _patch(member.struct_value, value.struct_value)
        else:
            target.fields[name].CopyFrom(value)
