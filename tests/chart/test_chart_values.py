"""What values do: wrong ones are refused, others change what they name and nothing else."""

import pytest
import yaml

from services.contracts.authorization.policy import parse_policy
from tests.support.helm import Values, example, merge, notes, render, render_all
from tests.support.manifests import Manifests

GATEWAY_SECRET = {"name": "flyteplane-gateway", "key": "secret"}
LOGIN = {"issuer": "https://a", "gatewaySecret": GATEWAY_SECRET, "audiences": ["b"], "jwksUrl": "https://a/keys"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"registry": {"replicas": -1}}, "/registry/replicas"),
        ({"registry": {"replica": 2}}, "additional properties 'replica' not allowed"),
        ({"executions": {"settings": {"max_paralelism": 5}}}, "at '/executions/settings': additional properties"),
        ({"executions": {"settings": {"max_parallelism": "many"}}}, "/executions/settings/max_parallelism"),
        ({"executions": {"settings": {"http_address": "0.0.0.0:1"}}}, "additional properties 'http_address'"),
        ({"objectStore": {"url": "http://bucket"}}, "/objectStore/url"),
        ({"database": {"sslMode": "on"}}, "/database/sslMode"),
        ({"gateway": {"image": {"digest": "sha256:1"}}}, "/gateway/image/digest"),
        ({"unknown": {}}, "additional properties 'unknown' not allowed"),
        ({"database": {"host": ""}}, "database.host: needed unless trial.postgresql is enabled"),
        ({"database": {"caSecret": {"name": ""}}}, "database.caSecret: needed for database.sslMode"),
        ({"image": {"repository": ""}}, "image.repository: needed"),
        ({"nats": {"servers": []}}, "nats.servers: needed unless trial.nats is enabled"),
        ({"nats": {"existingSecret": ""}}, "nats.existingSecret: needed"),
        ({"objectStore": {"url": ""}}, "objectStore.url: needed unless trial.objectStore is enabled"),
        ({"objectStore": {"url": "file:///data"}}, "needed for a file:// store"),
        ({"trial": {"nats": {"enabled": True}}}, "migrations.mode: hook runs before the parts of trial exist"),
        ({"ingress": {"enabled": True}}, "ingress.host: needed for an Ingress"),
        ({"route": {"enabled": True}}, "route.parentRefs: needed for routes"),
        ({"auth": {"issuer": "login.example"}}, "/auth/issuer"),
        ({"auth": {"issuer": "https://a"}}, "auth.gatewaySecret: needed with auth.issuer"),
        ({"auth": {"issuer": "https://a", "gatewaySecret": GATEWAY_SECRET}}, "auth.audiences: needed with auth.issuer"),
        (
            {"auth": {"issuer": "https://a", "gatewaySecret": GATEWAY_SECRET, "audiences": ["b"]}},
            "auth.jwksUrl: needed with auth.issuer",
        ),
        (
            {"auth": {**LOGIN, "browserClient": {"id": "console"}}},
            "auth.audiences: must have auth.browserClient.id",
        ),
        (
            {"authorization": {"bindings": [{"role": "admin"}]}},
            "auth.gatewaySecret: needed with authorization.bindings",
        ),
        ({"gateway": {"trustedProxies": -1}}, "/gateway/trustedProxies"),
        ({"events": {"settings": {"audit_log": True}}}, "additional properties 'audit_log' not allowed"),
        ({"projects": {"settings": {"auth_issuer": "https://a"}}}, "additional properties 'auth_issuer' not allowed"),
        ({"propeller": {"enabled": True}}, "propeller.enabled: needs engine.type kubernetes"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_wrong_values_are_refused_with_their_path(values: Values, message: str) -> None:
    (error,) = render_all([merge(example("minimal.yaml"), values)])
    assert isinstance(error, str)
    assert message in error


def test_patches_labels_and_further_objects_reach_what_they_name() -> None:
    manifests = render(
        ["minimal.yaml"],
        {
            "commonLabels": {"team": "fruit"},
            "patches": [
                {"target": {"kind": "Deployment", "name": "flyteplane-events"}, "patch": {"spec": {"paused": True}}},
                {"target": {"kind": "ConfigMap"}, "patch": {"immutable": True}},
            ],
            "extraObjects": [
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "plain"}, "data": {"a": "{{ b }}"}},
                'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "{{ .Release.Name }}-text"}',
            ],
            "events": {"extraEnv": [{"name": "A", "value": "b"}], "podLabels": {"own": "label"}},
        },
    )
    paused = {each["metadata"]["name"] for each in manifests.of("Deployment") if each["spec"].get("paused")}
    assert paused == {"flyteplane-events"}
    assert all(each["immutable"] for each in manifests.of("ConfigMap"))
    assert all(each["metadata"]["labels"]["team"] == "fruit" for each in manifests.objects)
    assert manifests.get("ConfigMap", "flyteplane-text")["metadata"]["namespace"] == "flyte"
    template = manifests.get("Deployment", "flyteplane-events")["spec"]["template"]
    assert {"name": "A", "value": "b"} in template["spec"]["containers"][0]["env"]
    assert template["metadata"]["labels"]["own"] == "label"


def test_pods_name_no_user_where_the_cluster_chooses_it() -> None:
    for where, pod in render(["trial.yaml"], {"fixedUser": False}).pods():
        context = pod["spec"]["securityContext"]
        assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}, where


def test_change_of_settings_rolls_only_their_service() -> None:
    before, after = render_all(
        [example("minimal.yaml"), merge(example("minimal.yaml"), {"registry": {"settings": {"max_workflow_nodes": 7}}})]
    )
    assert isinstance(before, Manifests)
    assert isinstance(after, Manifests)
    changed = [
        old["metadata"]["name"]
        for old, new in zip(before.of("Deployment"), after.of("Deployment"), strict=True)
        if old["spec"]["template"] != new["spec"]["template"]
    ]
    assert changed == ["flyteplane-registry"]


def test_notes_end_with_the_next_command() -> None:
    text = notes(["minimal.yaml"])
    assert "helm test --namespace flyte flyteplane" in text
    assert "No engine is connected" in text
    assert "port-forward service/flyteplane-gateway 30080:80" in text
    assert "Clients reach it at https://flyte.example.com." in notes(["minimal.yaml", "production.yaml"])


def test_login_reaches_the_gateway_and_all_services() -> None:
    manifests = render(["minimal.yaml", "login.yaml"], {"clusterResources": {"enabled": True}})
    services = ("registry", "executions", "events", "projects", "cluster-resources")
    for service in services:
        (container,) = manifests.get("Deployment", f"flyteplane-{service}")["spec"]["template"]["spec"]["containers"]
        variables = {each["name"]: each for each in container["env"]}
        assert variables["FLYTEPLANE_GATEWAY_SECRET"]["valueFrom"] == {"secretKeyRef": GATEWAY_SECRET}
    text = manifests.get("ConfigMap", "flyteplane-projects")["data"]["settings.yaml"]
    settings = yaml.safe_load(text)
    assert settings["auth_issuer"] == "https://login.example.com/realms/flyte"
    assert settings["auth_ca_file"] == "/etc/flyteplane/auth-ca/ca.crt"
    assert settings["auth_client_scopes"] == ["openid", "profile"]
    gateway = manifests.get("Deployment", "flyteplane-gateway")["spec"]["template"]["spec"]
    (first,), (envoy,) = gateway["initContainers"], gateway["containers"]
    assert "--auth-audience=flyte" in first["args"]
    assert "--gateway-secret-file=/etc/flyteplane/gateway-secret/secret" in first["args"]
    assert "/etc/flyteplane/auth-ca" in {mount["mountPath"] for mount in envoy["volumeMounts"]}
    assert "gateway-secret" not in {mount["name"] for mount in envoy["volumeMounts"]}
    (test,) = manifests.get("Pod", "flyteplane-test")["spec"]["containers"]
    assert "--client-id=release-test" in test["args"]


def test_login_of_browsers_reaches_projects_through_the_gateway() -> None:
    manifests = render(["minimal.yaml", "login.yaml"], {"publicUrl": "https://flyte.example.com"})
    with_secret = {}
    for service in ("registry", "projects"):
        (container,) = manifests.get("Deployment", f"flyteplane-{service}")["spec"]["template"]["spec"]["containers"]
        variables = {each["name"]: each for each in container["env"]}
        with_secret[service] = variables.get("FLYTEPLANE_LOGIN_CLIENT_SECRET", {}).get("valueFrom")
    secret = {"name": "flyteplane-console", "key": "client-secret"}
    assert with_secret == {"registry": None, "projects": {"secretKeyRef": secret}}
    settings = yaml.safe_load(manifests.get("ConfigMap", "flyteplane-projects")["data"]["settings.yaml"])
    assert (settings["login_client_id"], settings["public_url"]) == ("console", "https://flyte.example.com")
    (first,) = manifests.get("Deployment", "flyteplane-gateway")["spec"]["template"]["spec"]["initContainers"]
    assert [each for each in first["args"] if each.startswith("--browser-login=flyteplane-projects")]
    policy = manifests.get("NetworkPolicy", "flyteplane-projects")["spec"]["ingress"][0]
    assert 8082 in {port["port"] for port in policy["ports"]}


def test_roles_and_audit_log_reach_all_services() -> None:
    manifests = render(["minimal.yaml", "roles.yaml"], {"clusterResources": {"enabled": True}})
    text = manifests.get("ConfigMap", "flyteplane-authorization")["data"]["policy.yaml"]
    assert {binding.role for binding in parse_policy(text).bindings} == {"engine", "admin", "contributor"}
    for service in ("registry", "executions", "events", "projects"):
        settings = yaml.safe_load(manifests.get("ConfigMap", f"flyteplane-{service}")["data"]["settings.yaml"])
        assert (settings["audit_log"], settings["audit_log_days"]) == (True, 365)
        folder, _, file = settings["authorization_policy"].rpartition("/")
        assert file == "policy.yaml"
        (container,) = manifests.get("Deployment", f"flyteplane-{service}")["spec"]["template"]["spec"]["containers"]
        assert {"name": "authorization", "mountPath": folder, "readOnly": True} in container["volumeMounts"]
    text = manifests.get("ConfigMap", "flyteplane-cluster-resources")["data"]["settings.yaml"]
    assert not {"authorization_policy", "audit_log"} & yaml.safe_load(text).keys()
    gateway = manifests.get("Deployment", "flyteplane-gateway")["spec"]["template"]["spec"]
    assert "--trusted-proxies=1" in gateway["initContainers"][0]["args"]


def test_without_a_client_there_is_no_test_of_a_release_with_login() -> None:
    manifests = render(["minimal.yaml", "login.yaml"], {"test": {"client": {"id": ""}}})
    assert not manifests.of("Pod")
