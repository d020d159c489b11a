"""The gRPC services of Flyte. Several processes serve their methods, and clients see one server."""

from flyteidl.service import admin_pb2, auth_pb2, dataproxy_pb2, identity_pb2, signal_pb2

SERVICES = tuple(
    service
    for module in (admin_pb2, signal_pb2, dataproxy_pb2, auth_pb2, identity_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
)
"""Their descriptors."""

SERVICE_NAMES = tuple(service.full_name for service in SERVICES)
"""Their full names."""
