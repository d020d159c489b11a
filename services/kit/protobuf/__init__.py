"""Protobuf messages: wire format, values that every client can read, sizes."""
