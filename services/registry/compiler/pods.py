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
# Of all kinds together; pods have a handful.
MAX_CONTAINERS = 1000
# Values of known fields: those of a hundred containers with thirty variables each fit. They are checked in 0.1 s.
MAX_VALUES = 20_000
# As many values does an amount of a resource count for, as it takes that much longer to check.
_AMOUNT_COST = 5


class _Kind(Enum):
    STRING = auto()
    INTEGER = auto()
    BOOLEAN = auto()
    QUANTITY = auto()
    OBJECT = auto()  # its fields are not checked


class _MapOf:
    """An object of any keys and values of one kind."""

    def __init__(self, kind: _Kind) -> None:
        self.kind = kind


# An object of these fields, a list of one shape, or a plain value.
_Shape: TypeAlias = "Mapping[str, _Shape] | list[_Shape] | _MapOf | _Kind"

_STRING, _INTEGER, _BOOLEAN, _OBJECT = _Kind.STRING, _Kind.INTEGER, _Kind.BOOLEAN, _Kind.OBJECT
_LABEL_SELECTION: _Shape = {"matchLabels": _MapOf(_STRING), "matchExpressions": [_OBJECT]}
_IDENTITY: dict[str, _Shape] = {"runAsUser": _INTEGER, "runAsGroup": _INTEGER, "runAsNonRoot": _BOOLEAN}

_CONTAINER: _Shape = {
    "name": _STRING,
    "image": _STRING,
    "workingDir": _STRING,
    "imagePullPolicy": _STRING,
    "restartPolicy": _STRING,
    "terminationMessagePath": _STRING,
    "terminationMessagePolicy": _STRING,
    "stdin": _BOOLEAN,
    "stdinOnce": _BOOLEAN,
    "tty": _BOOLEAN,
    "command": [_STRING],
    "args": [_STRING],
    "env": [{"name": _STRING, "value": _STRING, "valueFrom": _OBJECT}],
    "envFrom": [{"prefix": _STRING, "configMapRef": _OBJECT, "secretRef": _OBJECT}],
    "ports": [
        {"name": _STRING, "protocol": _STRING, "hostIP": _STRING, "containerPort": _INTEGER, "hostPort": _INTEGER},
    ],
    "volumeMounts": [
        {
            "name": _STRING,
            "mountPath": _STRING,
            "subPath": _STRING,
            "subPathExpr": _STRING,
            "mountPropagation": _STRING,
            "readOnly": _BOOLEAN,
        },
    ],
    "volumeDevices": [{"name": _STRING, "devicePath": _STRING}],
    "resources": {"limits": _MapOf(_Kind.QUANTITY), "requests": _MapOf(_Kind.QUANTITY), "claims": [_OBJECT]},
    "livenessProbe": _OBJECT,
    "readinessProbe": _OBJECT,
    "startupProbe": _OBJECT,
    "lifecycle": _OBJECT,
    "securityContext": {
        **_IDENTITY,
        "privileged": _BOOLEAN,
        "readOnlyRootFilesystem": _BOOLEAN,
        "allowPrivilegeEscalation": _BOOLEAN,
        "capabilities": {"add": [_STRING], "drop": [_STRING]},
    },
}

_POD: "Mapping[str, _Shape]" = {
    "restartPolicy": _STRING,
    "dnsPolicy": _STRING,
    "serviceAccountName": _STRING,
    "serviceAccount": _STRING,
    "nodeName": _STRING,
    "hostname": _STRING,
    "subdomain": _STRING,
    "schedulerName": _STRING,
    "priorityClassName": _STRING,
    "preemptionPolicy": _STRING,
    "runtimeClassName": _STRING,
    "terminationGracePeriodSeconds": _INTEGER,
    "activeDeadlineSeconds": _INTEGER,
    "priority": _INTEGER,
    "automountServiceAccountToken": _BOOLEAN,
    "hostNetwork": _BOOLEAN,
    "hostPID": _BOOLEAN,
    "hostIPC": _BOOLEAN,
    "hostUsers": _BOOLEAN,
    "shareProcessNamespace": _BOOLEAN,
    "setHostnameAsFQDN": _BOOLEAN,
    "enableServiceLinks": _BOOLEAN,
    "nodeSelector": _MapOf(_STRING),
    "overhead": _MapOf(_Kind.QUANTITY),
    "securityContext": {**_IDENTITY, "fsGroup": _INTEGER, "supplementalGroups": [_INTEGER]},
    "affinity": {"nodeAffinity": _OBJECT, "podAffinity": _OBJECT, "podAntiAffinity": _OBJECT},
    "dnsConfig": {"nameservers": [_STRING], "searches": [_STRING], "options": [{"name": _STRING, "value": _STRING}]},
    "os": {"name": _STRING},
    "volumes": [{"name": _STRING}],
    "imagePullSecrets": [{"name": _STRING}],
    "tolerations": [
        {"key": _STRING, "operator": _STRING, "value": _STRING, "effect": _STRING, "tolerationSeconds": _INTEGER},
    ],
    "hostAliases": [{"ip": _STRING, "hostnames": [_STRING]}],
    "readinessGates": [{"conditionType": _STRING}],
    "topologySpreadConstraints": [
        {
            "maxSkew": _INTEGER,
            "minDomains": _INTEGER,
            "topologyKey": _STRING,
            "whenUnsatisfiable": _STRING,
            "labelSelector": _LABEL_SELECTION,
        },
    ],
    "schedulingGates": [{"name": _STRING}],
    "resourceClaims": [_OBJECT],
    "containers": [_CONTAINER],
    "initContainers": [_CONTAINER],
    "ephemeralContainers": [_CONTAINER],
}
_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")

# Fields of Value by kind, except for quantities.
_FIELDS = {
    _Kind.STRING: "string_value",
    _Kind.INTEGER: "number_value",
    _Kind.BOOLEAN: "bool_value",
    _Kind.OBJECT: "struct_value",
}


class NotAPodSpec(ValueError):
    """The Struct cannot be decoded as a PodSpec."""


class TooLargePodSpec(NotAPodSpec):
    """The PodSpec has more containers or values than it may have."""


def container_names(pod_spec: Struct) -> list[str]:
    """Return the names of the pod's containers, without init containers; raise NotAPodSpec, TooLargePodSpec."""
    if pod_spec.ByteSize() > MAX_BYTES:
        raise NotAPodSpec
    containers = sum(len(pod_spec.fields[name].list_value.values) for name in _CONTAINERS if name in pod_spec.fields)
    if containers > MAX_CONTAINERS:
        raise TooLargePodSpec(f"the pod_spec of the K8sPod has {containers} containers, it may have {MAX_CONTAINERS}")
    _Check().fields(pod_spec, _POD)
    listed = pod_spec.fields["containers"].list_value.values if "containers" in pod_spec.fields else ()
    return [_name(container.struct_value) for container in listed]


class _Check:
    """The check of one PodSpec, which ends at the first fault or after `MAX_VALUES`."""

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def fields(self, parent: Struct, shape: "Mapping[str, _Shape]") -> None:
        """Check the fields of an object that `shape` names."""
        for name, item in parent.fields.items():
            if name in shape:
                self._value(item, shape[name])

    def _value(self, value: Value, shape: _Shape) -> None:
        self._left -= _AMOUNT_COST if shape is _Kind.QUANTITY else 1
        if self._left < 0:
            raise TooLargePodSpec(f"the pod_spec of the K8sPod has too many values, it may have {MAX_VALUES}")
        if value.WhichOneof("kind") in {"null_value", None}:
            return
        if isinstance(shape, _Kind):
            _check_plain(value, shape)
        elif isinstance(shape, list):
            _require(value, "list_value")
            for item in value.list_value.values:
                self._value(item, shape[0])
        elif isinstance(shape, Mapping):
            _require(value, "struct_value")
            self.fields(value.struct_value, shape)
        else:
            _require(value, "struct_value")
            for item in value.struct_value.fields.values():
                self._value(item, shape.kind)


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
