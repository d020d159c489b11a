"""Reading a Kubernetes PodSpec out of the loose structure in which tasks carry it.

Only as far as Kubernetes' own decoder would look: known fields must be of their kind, resource amounts must be
quantities; unknown fields and nulls pass. What a field means is left to the cluster.
"""

from google.protobuf.struct_pb2 import Struct, Value

from services.registry.rules.quantities import parse_quantity

_TEXTS = [
    "restartPolicy",
    "dnsPolicy",
    "serviceAccountName",
    "serviceAccount",
    "nodeName",
    "hostname",
    "subdomain",
    "schedulerName",
    "priorityClassName",
    "preemptionPolicy",
    "runtimeClassName",
]
_NUMBERS = ["terminationGracePeriodSeconds", "activeDeadlineSeconds", "priority"]
_SWITCHES = [
    "automountServiceAccountToken",
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "hostUsers",
    "shareProcessNamespace",
    "setHostnameAsFQDN",
    "enableServiceLinks",
]
_OBJECTS = ["nodeSelector", "securityContext", "affinity", "dnsConfig", "overhead", "os"]
_LISTS_OF_OBJECTS = [
    "volumes",
    "initContainers",
    "containers",
    "ephemeralContainers",
    "imagePullSecrets",
    "tolerations",
    "hostAliases",
    "readinessGates",
    "topologySpreadConstraints",
    "schedulingGates",
    "resourceClaims",
]

_CONTAINER_TEXTS = [
    "name",
    "image",
    "workingDir",
    "imagePullPolicy",
    "terminationMessagePath",
    "terminationMessagePolicy",
]
_CONTAINER_SWITCHES = ["stdin", "stdinOnce", "tty"]
_CONTAINER_LISTS_OF_TEXTS = ["command", "args"]
_CONTAINER_LISTS_OF_OBJECTS = ["ports", "envFrom", "env", "volumeMounts", "volumeDevices"]
_CONTAINER_OBJECTS = ["resources", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "securityContext"]


class NotAPodSpec(ValueError):
    """The structure does not decode as a PodSpec."""


def container_names(pod_spec: Struct) -> list[str]:
    """Return the names of the pod's containers, init containers left out; raises NotAPodSpec."""
    _check_fields(pod_spec, _TEXTS, "string_value")
    _check_fields(pod_spec, _NUMBERS, "number_value")
    _check_fields(pod_spec, _SWITCHES, "bool_value")
    _check_fields(pod_spec, _OBJECTS, "struct_value")
    for field in _LISTS_OF_OBJECTS:
        _items(pod_spec, field, "struct_value")
    containers = [item.struct_value for item in _items(pod_spec, "containers", "struct_value")]
    others = [
        *_items(pod_spec, "initContainers", "struct_value"),
        *_items(pod_spec, "ephemeralContainers", "struct_value"),
    ]
    for container in (*containers, *(item.struct_value for item in others)):
        _check_container(container)
    return [_string(container, "name") for container in containers]


def _check_container(container: Struct) -> None:
    _check_fields(container, _CONTAINER_TEXTS, "string_value")
    _check_fields(container, _CONTAINER_SWITCHES, "bool_value")
    _check_fields(container, _CONTAINER_OBJECTS, "struct_value")
    for field in _CONTAINER_LISTS_OF_TEXTS:
        _items(container, field, "string_value")
    for field in _CONTAINER_LISTS_OF_OBJECTS:
        _items(container, field, "struct_value")
    resources = container.fields["resources"].struct_value if "resources" in container.fields else Struct()
    _check_fields(resources, ["limits", "requests"], "struct_value")
    for field in ("limits", "requests"):
        if field in resources.fields:
            for amount in resources.fields[field].struct_value.fields.values():
                _check_quantity(amount)


def _check_quantity(amount: Value) -> None:
    kind = amount.WhichOneof("kind")
    if kind == "null_value":
        return
    # A number is as good as its text.
    text = amount.string_value if kind == "string_value" else f"{amount.number_value:.12g}"
    try:
        if kind not in {"string_value", "number_value"}:
            raise NotAPodSpec
        parse_quantity(text)
    except ValueError as error:
        raise NotAPodSpec from error


def _check_fields(parent: Struct, fields: list[str], kind: str) -> None:
    for field in fields:
        if field in parent.fields:
            _check_kind(parent.fields[field], kind)


def _items(parent: Struct, field: str, kind: str) -> list[Value]:
    if field not in parent.fields:
        return []
    _check_kind(parent.fields[field], "list_value")
    items = parent.fields[field].list_value.values
    for item in items:
        _check_kind(item, kind)
    return list(items)


def _check_kind(value: Value, kind: str) -> None:
    if value.WhichOneof("kind") not in {kind, "null_value", None}:
        raise NotAPodSpec


def _string(parent: Struct, field: str) -> str:
    return parent.fields[field].string_value if field in parent.fields else ""
