"""A check of Kubernetes PodSpecs, which tasks contain as a protobuf Struct.

It checks what Kubernetes' own decoder does: known fields are of their kind, resource amounts are quantities; unknown
fields and nulls pass. Values are not checked further.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import TypeAlias

from google.protobuf.struct_pb2 import Struct, Value

from services.contracts.quantities import parse_quantity

# No cluster accepts a larger object: etcd's limit is 1.5 MiB. Without a limit the check could take long.
MAX_BYTES = 1024 * 1024


class _Kind(Enum):
    TEXT = auto()
    INTEGER = auto()
    SWITCH = auto()
    QUANTITY = auto()
    OBJECT = auto()  # its fields are not checked


class _MapOf:
    """An object of any keys and values of one kind."""

    def __init__(self, kind: _Kind) -> None:
        self.kind = kind


# An object of these fields, a list of one shape, or a plain value.
_Shape: TypeAlias = "Mapping[str, _Shape] | list[_Shape] | _MapOf | _Kind"

_TEXT, _INTEGER, _SWITCH, _OBJECT = _Kind.TEXT, _Kind.INTEGER, _Kind.SWITCH, _Kind.OBJECT
_LABEL_SELECTION: _Shape = {"matchLabels": _MapOf(_TEXT), "matchExpressions": [_OBJECT]}
_IDENTITY: dict[str, _Shape] = {"runAsUser": _INTEGER, "runAsGroup": _INTEGER, "runAsNonRoot": _SWITCH}

_CONTAINER: _Shape = {
    "name": _TEXT,
    "image": _TEXT,
    "workingDir": _TEXT,
    "imagePullPolicy": _TEXT,
    "restartPolicy": _TEXT,
    "terminationMessagePath": _TEXT,
    "terminationMessagePolicy": _TEXT,
    "stdin": _SWITCH,
    "stdinOnce": _SWITCH,
    "tty": _SWITCH,
    "command": [_TEXT],
    "args": [_TEXT],
    "env": [{"name": _TEXT, "value": _TEXT, "valueFrom": _OBJECT}],
    "envFrom": [{"prefix": _TEXT, "configMapRef": _OBJECT, "secretRef": _OBJECT}],
    "ports": [
        {"name": _TEXT, "protocol": _TEXT, "hostIP": _TEXT, "containerPort": _INTEGER, "hostPort": _INTEGER},
    ],
    "volumeMounts": [
        {
            "name": _TEXT,
            "mountPath": _TEXT,
            "subPath": _TEXT,
            "subPathExpr": _TEXT,
            "mountPropagation": _TEXT,
            "readOnly": _SWITCH,
        },
    ],
    "volumeDevices": [{"name": _TEXT, "devicePath": _TEXT}],
    "resources": {"limits": _MapOf(_Kind.QUANTITY), "requests": _MapOf(_Kind.QUANTITY), "claims": [_OBJECT]},
    "livenessProbe": _OBJECT,
    "readinessProbe": _OBJECT,
    "startupProbe": _OBJECT,
    "lifecycle": _OBJECT,
    "securityContext": {
        **_IDENTITY,
        "privileged": _SWITCH,
        "readOnlyRootFilesystem": _SWITCH,
        "allowPrivilegeEscalation": _SWITCH,
        "capabilities": {"add": [_TEXT], "drop": [_TEXT]},
    },
}

_POD: _Shape = {
    "restartPolicy": _TEXT,
    "dnsPolicy": _TEXT,
    "serviceAccountName": _TEXT,
    "serviceAccount": _TEXT,
    "nodeName": _TEXT,
    "hostname": _TEXT,
    "subdomain": _TEXT,
    "schedulerName": _TEXT,
    "priorityClassName": _TEXT,
    "preemptionPolicy": _TEXT,
    "runtimeClassName": _TEXT,
    "terminationGracePeriodSeconds": _INTEGER,
    "activeDeadlineSeconds": _INTEGER,
    "priority": _INTEGER,
    "automountServiceAccountToken": _SWITCH,
    "hostNetwork": _SWITCH,
    "hostPID": _SWITCH,
    "hostIPC": _SWITCH,
    "hostUsers": _SWITCH,
    "shareProcessNamespace": _SWITCH,
    "setHostnameAsFQDN": _SWITCH,
    "enableServiceLinks": _SWITCH,
    "nodeSelector": _MapOf(_TEXT),
    "overhead": _MapOf(_Kind.QUANTITY),
    "securityContext": {**_IDENTITY, "fsGroup": _INTEGER, "supplementalGroups": [_INTEGER]},
    "affinity": {"nodeAffinity": _OBJECT, "podAffinity": _OBJECT, "podAntiAffinity": _OBJECT},
    "dnsConfig": {"nameservers": [_TEXT], "searches": [_TEXT], "options": [{"name": _TEXT, "value": _TEXT}]},
    "os": {"name": _TEXT},
    "volumes": [{"name": _TEXT}],
    "imagePullSecrets": [{"name": _TEXT}],
    "tolerations": [
        {"key": _TEXT, "operator": _TEXT, "value": _TEXT, "effect": _TEXT, "tolerationSeconds": _INTEGER},
    ],
    "hostAliases": [{"ip": _TEXT, "hostnames": [_TEXT]}],
    "readinessGates": [{"conditionType": _TEXT}],
    "topologySpreadConstraints": [
        {
            "maxSkew": _INTEGER,
            "minDomains": _INTEGER,
            "topologyKey": _TEXT,
            "whenUnsatisfiable": _TEXT,
            "labelSelector": _LABEL_SELECTION,
        },
    ],
    "schedulingGates": [{"name": _TEXT}],
    "resourceClaims": [_OBJECT],
    "containers": [_CONTAINER],
    "initContainers": [_CONTAINER],
    "ephemeralContainers": [_CONTAINER],
}

# Fields of Value by kind, except for quantities.
_FIELDS = {
    _Kind.TEXT: "string_value",
    _Kind.INTEGER: "number_value",
    _Kind.SWITCH: "bool_value",
    _Kind.OBJECT: "struct_value",
}


class NotAPodSpec(ValueError):
    """The Struct cannot be decoded as a PodSpec."""


def container_names(pod_spec: Struct) -> list[str]:
    """Return the names of the pod's containers, without init containers; raise NotAPodSpec."""
    if pod_spec.ByteSize() > MAX_BYTES:
        raise NotAPodSpec
    _check(Value(struct_value=pod_spec), _POD)
    containers = pod_spec.fields["containers"].list_value.values if "containers" in pod_spec.fields else ()
    return [_name(container.struct_value) for container in containers]


def _check(value: Value, shape: _Shape) -> None:
    if value.WhichOneof("kind") in {"null_value", None}:
        return
    if isinstance(shape, _Kind):
        _check_plain(value, shape)
    elif isinstance(shape, list):
        _require(value, "list_value")
        for item in value.list_value.values:
            _check(item, shape[0])
    elif isinstance(shape, _MapOf):
        _require(value, "struct_value")
        for item in value.struct_value.fields.values():
            _check(item, shape.kind)
    else:
        _require(value, "struct_value")
        for name, item in value.struct_value.fields.items():
            if name in shape:
                _check(item, shape[name])


def _check_plain(value: Value, kind: _Kind) -> None:
    if kind is _Kind.QUANTITY:
        _check_quantity(value)
    else:
        _require(value, _FIELDS[kind])
        if kind is _Kind.INTEGER and not value.number_value.is_integer():
            raise NotAPodSpec


def _check_quantity(amount: Value) -> None:
    kind = amount.WhichOneof("kind")
    # Kubernetes accepts a number instead of its text.
    text = amount.string_value if kind == "string_value" else f"{amount.number_value:.12g}"
    try:
        if kind not in {"string_value", "number_value"}:
            raise NotAPodSpec
        parse_quantity(text)
    except ValueError as error:
        raise NotAPodSpec from error


def _require(value: Value, kind: str) -> None:
    if value.WhichOneof("kind") != kind:
        raise NotAPodSpec


def _name(container: Struct) -> str:
    return container.fields["name"].string_value if "name" in container.fields else ""
