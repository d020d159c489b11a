"""A real API server accepts every object of the chart, and Helm installs, upgrades and rolls back on it."""

import base64
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import HTTPError

import pytest

from tests.support.cluster_binaries import NoGo, binaries
from tests.support.helm import CHART, NAMESPACE, PYTHON, TOOLS, example, merge, render, values_of_examples
from tests.support.manifests import KubernetesObject
from tests.support.real_api_servers import ADMIN_TOKEN, RealApiServer, real_api_server

# Their definitions are those of operators, which are not installed here.
OPERATORS = {"GRPCRoute", "HTTPRoute", "PodMonitor", "PrometheusRule", "ScaledObject", "ServiceMonitor"}
RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
}
DRY_RUN = "?dryRun=All&fieldValidation=Strict&fieldManager=helm"
_HELM_SECONDS = 120


@pytest.fixture(scope="module")
def server() -> Iterator[RealApiServer]:
    """Run an API server with a namespace of the restricted profile."""
    try:
        binaries()
    except NoGo as missing:
        pytest.skip(str(missing))
    with TemporaryDirectory(prefix="fp-") as folder, real_api_server(Path(folder) / "api") as running:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": RESTRICTED}}
        running.request("POST", "/api/v1/namespaces", namespace)
        yield running


@pytest.mark.parametrize("name", values_of_examples())
def test_every_object_passes_a_server_side_dry_run(server: RealApiServer, name: str) -> None:
    manifests = render(values_of_examples()[name])
    refused = [
        problem for each in manifests.objects if each["kind"] not in OPERATORS and (problem := _refusal(server, each))
    ]
    assert not refused


@pytest.mark.parametrize("name", values_of_examples())
def test_every_pod_is_admitted_by_the_restricted_profile(server: RealApiServer, name: str) -> None:
    for where, template in render(values_of_examples()[name]).pods():
        metadata = {"name": "admitted", "namespace": NAMESPACE, "labels": template["metadata"]["labels"]}
        spec = (
            template["spec"] if "restartPolicy" in template["spec"] else template["spec"] | {"restartPolicy": "Always"}
        )
        # The volume of a StatefulSet's claim, which its controller adds.
        mounted = {mount["name"] for each in spec["containers"] for mount in each.get("volumeMounts", ())}
        missing = mounted - {volume["name"] for volume in spec.get("volumes", ())}
        volumes = [*spec.get("volumes", ()), *({"name": each, "emptyDir": {}} for each in missing)]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec | {"volumes": volumes}}
        assert not _refusal(server, pod), where


def test_pod_that_may_run_as_root_is_refused(server: RealApiServer) -> None:
    container = {"name": "a", "image": "a"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root", "namespace": NAMESPACE}}
    assert "violates PodSecurity" in _refusal(server, pod | {"spec": {"containers": [container]}})


def test_helm_installs_upgrades_and_rolls_back_with_the_passwords_of_the_trial_kept(server: RealApiServer) -> None:
    changed = merge(
        example("trial.yaml"), {"registry": {"replicas": 2}, "executions": {"settings": {"max_parallelism": 3}}}
    )
    command = [str(PYTHON), str(TOOLS / "release.py"), str(CHART), server.url, str(server.ca_file), ADMIN_TOKEN]
    ran = subprocess.run(
        command,
        input=json.dumps([example("trial.yaml"), changed]),
        capture_output=True,
        text=True,
        timeout=_HELM_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == ["superseded", "superseded", "deployed"]
    path = "/api/v1/namespaces/installed/secrets"
    passwords = server.request("GET", f"{path}/flyteplane-trial")["data"]
    nats = base64.b64decode(server.request("GET", f"{path}/flyteplane-nats")["data"]["nats.conf"]).decode()
    for service in ("registry", "executions", "events", "projects"):
        assert base64.b64decode(passwords[f"nats-{service}"]).decode() in nats
    # Each revision has the same: the rollback's objects are those of the first one, which made them.
    revisions = server.request("GET", "/apis/apps/v1/namespaces/installed/deployments/flyteplane-registry")
    assert revisions["spec"]["replicas"] == 1
    made = _manifest_of(server, 1)["stringData"]
    assert made == _manifest_of(server, 2)["stringData"]


def _manifest_of(server: RealApiServer, revision: int) -> Mapping[str, Any]:
    """Return the Secret of the trial as a revision of the release has it."""
    import gzip

    import yaml

    stored = server.request("GET", f"/api/v1/namespaces/installed/secrets/sh.helm.release.v1.flyteplane.v{revision}")
    release = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(stored["data"]["release"]))))
    for document in yaml.load_all(release["manifest"], Loader=yaml.CSafeLoader):
        if document and document["kind"] == "Secret" and document["metadata"]["name"] == "flyteplane-trial":
            found: Mapping[str, Any] = document
            return found
    raise LookupError("the revision has no such Secret")


def _refusal(server: RealApiServer, given: KubernetesObject) -> str:
    """Return why the server does not create an object; empty when it would."""
    version = given["apiVersion"]
    group = f"/apis/{version}" if "/" in version else f"/api/{version}"
    resources = server.request("GET", group)["resources"]
    (kind,) = (each for each in resources if each["kind"] == given["kind"] and "/" not in each["name"])
    place = f"/namespaces/{given['metadata']['namespace']}" if kind["namespaced"] else ""
    try:
        server.request("POST", f"{group}{place}/{kind['name']}{DRY_RUN}", given)
    except HTTPError as error:
        return f"{given['kind']} {given['metadata']['name']}: {json.loads(error.read())['message']}"
    return ""
