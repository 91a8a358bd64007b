"""deploy/kubernetes, as far as manifests can be checked without a cluster."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text("utf-8"))
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
VARIABLES = {f"WARPLINE_{name.upper()}" for name in Settings.model_fields}
LABEL = "app.kubernetes.io/name"


def documents(*names: str) -> list[dict[str, Any]]:
    texts = ((FOLDER / name).read_text("utf-8") for name in names)
    return [document for text in texts for document in yaml.safe_load_all(text)]


OBJECTS = documents(*KUSTOMIZATION["resources"])
SECRET = documents("secret.example.yaml")[0]
CONFIG = next(one for one in OBJECTS if one["kind"] == "ConfigMap")
WORKLOADS = {
    one["metadata"]["name"]: one["spec"]["template"]
    for one in OBJECTS
    if "template" in one.get("spec", {})
}
PODS = {name: template["spec"] for name, template in WORKLOADS.items()}


def container(name: str) -> dict[str, Any]:
    (only,) = PODS[name]["containers"]
    return only


def environment(name: str) -> dict[str, str]:
    """What the container sees; values of secrets and of the config map stand for themselves."""
    known = {"warpline-settings": CONFIG["data"], "warpline-secrets": SECRET["stringData"]}
    found: dict[str, str] = {}
    for source in container(name).get("envFrom", []):
        (reference,) = source.values()
        found |= known[reference["name"]]
    for one in container(name).get("env", []):
        if "valueFrom" in one:
            (reference,) = one["valueFrom"].values()
            found[one["name"]] = known[reference["name"]][reference["key"]]
        else:
            found[one["name"]] = one["value"]
    return found


def test_every_manifest_is_applied_but_the_example_of_secrets():
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert files - set(KUSTOMIZATION["resources"]) == {"secret.example.yaml"}
    assert SECRET["metadata"]["namespace"] == KUSTOMIZATION["namespace"]
    assert not any(SECRET["stringData"].values()), "a default that works is one that stays"
    for one in OBJECTS:
        assert one["apiVersion"]
        assert one["metadata"]["name"]


def test_there_are_the_faces_and_the_migration():
    assert set(WORKLOADS) == {"gateway", "worker", "live", "migrate"}


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_a_pod_is_nobody_special_and_writes_only_where_it_must(name: str):
    pod, only = PODS[name], container(name)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert only["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert only["resources"]["limits"]["memory"]
    assert only["resources"]["requests"].keys() == {"cpu", "memory"}
    volumes = {volume["name"]: volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in only["volumeMounts"]}
    assert volumes.keys() == mounts.keys()
    assert {"/tmp", "/var/lib/warpline"} <= set(mounts.values())  # noqa: S108 - in the container


@pytest.mark.parametrize("name", ["gateway", "worker", "live"])
def test_what_runs_on_has_probes_and_time_to_stop(name: str):
    only = container(name)
    ports = {port["name"] for port in only.get("ports", [])}
    assert "livenessProbe" in only
    assert "readinessProbe" in only or name == "worker"  # nobody sends it requests
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = only.get(kind, {})
        assert "httpGet" not in probe or probe["httpGet"]["port"] in ports
    assert PODS[name]["terminationGracePeriodSeconds"] >= 30


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_it_is_the_image_and_the_command_of_compose(name: str):
    assert container(name)["image"] == COMPOSE[name]["image"]
    assert container(name)["command"] == COMPOSE[name]["command"]


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_variables_are_settings_that_our_processes_accept(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    known = environment(name)
    assert known.keys() <= VARIABLES
    for variable, value in known.items():
        assert isinstance(value, str), variable
        monkeypatch.setenv(variable, value or "x")
    settings = Settings(_env_file=None)
    assert settings.api_keys is not None
    if name != "live":
        assert not settings.is_embedded
        assert {"WARPLINE_DATABASE_URL", "WARPLINE_S3_SECRET_KEY"} <= known.keys()


def test_live_sessions_know_no_secret_but_the_keys_of_callers():
    assert set(environment("live")) & set(SECRET["stringData"]) == {"WARPLINE_API_KEYS"}


def test_services_lead_to_ports_that_somebody_listens_on():
    for service in (one for one in OBJECTS if one["kind"] == "Service"):
        name = service["spec"]["selector"][LABEL]
        assert WORKLOADS[name]["metadata"]["labels"][LABEL] == name
        listening = {port["name"]: port["containerPort"] for port in container(name)["ports"]}
        for port in service["spec"]["ports"]:
            assert listening[port["targetPort"]] == port["port"]
    here = environment("gateway")
    assert {here["WARPLINE_PORT"], here["WARPLINE_GRPC_PORT"]} == {"8080", "8081"}
    there = environment("live")
    assert here["WARPLINE_LIVE_ADDRESS"] == f"live:{there['WARPLINE_LIVE_PORT']}"
    listening = {port["name"]: port["containerPort"] for port in container("live")["ports"]}
    assert listening == {
        "grpc": int(there["WARPLINE_LIVE_PORT"]),
        "http": int(there["WARPLINE_LIVE_HTTP_PORT"]),
    }


def test_selectors_find_their_own_pods_and_the_network_lets_only_gateways_reach_live():
    for one in OBJECTS:
        if one["kind"] == "Deployment":
            labels = one["spec"]["template"]["metadata"]["labels"]
            assert one["spec"]["selector"]["matchLabels"] == labels
    policies = {one["metadata"]["name"]: one for one in OBJECTS if one["kind"] == "NetworkPolicy"}
    assert policies["nobody-by-default"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    (rule,) = policies["gateways-to-live"]["spec"]["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": {LABEL: "gateway"}}}]
    assert rule["ports"] == [{"port": 8090}]
