"""The plugin's own information over the events of an attempt (events.md 4.8)."""

from google.protobuf.struct_pb2 import Struct


def merge_patch(stored: Struct, told: Struct, *, present: bool) -> None:
    """Patch `stored` in place as RFC 7386 says: null members delete, structs merge, everything else replaces.

    Without a stored one (`present` is false) the new one is taken as it is, its nulls included.
    """
    if not present:
        stored.CopyFrom(told)
        return
    _patch(stored, told)


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
