"""Dockerfile and docker-compose.yml, as far as they can be checked without Docker."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from service.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES = COMPOSE["services"]
OURS = ("gateway", "worker", "live", "worker-gpu", "trainer", "migrate")
FINAL = ("gateway", "worker-cpu", "worker-gpu", "live", "trainer")
WITHOUT_STORES = {"live"}
ONE_SHOT = ("migrate", "bucket")


def stages() -> dict[str, list[str]]:
    """Instructions of each stage, continued lines joined, comments gone."""
    lines = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    found: dict[str, list[str]] = {}
    for line in filter(None, map(str.strip, lines.splitlines())):
        start = re.match(r"FROM \S+ AS (\S+)", line)
        if start:
            found[start[1]] = []
        elif found:
            found[list(found)[-1]].append(line)
    return found


def packages_of(extra: str) -> set[str]:
    """Names of the distributions that an extra brings, our own extras followed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names: set[str] = set()
    waiting = [*project["dependencies"], f"warpline[{extra}]"]
    while waiting:
        name, _, extras = re.match(r"([\w.-]+)(\[([\w,-]+)\])?", waiting.pop()).groups()
        if name == "warpline":
            for one in extras.split(","):
                waiting += project["optional-dependencies"][one]
        else:
            names.add(name.lower())
    return names


@pytest.mark.parametrize("target", FINAL)
def test_image_runs_as_nobody_special_and_says_how_it_is(target):
    instructions = stages()[target]
    assert "USER 10001:10001" in instructions
    assert any(line.startswith("HEALTHCHECK") for line in instructions)
    assert any(line.startswith("CMD [") for line in instructions)
    after_user = instructions[instructions.index("USER 10001:10001") :]
    assert not [line for line in after_user if line.startswith(("RUN", "COPY", "ADD"))]


def test_images_hold_no_compiler_and_take_wheels_only():
    assert not re.search(r"\b(gcc|g\+\+|build-essential|python3-dev)\b", DOCKERFILE)
    installs = re.findall(r"pip install [^\n]*", DOCKERFILE)
    assert len(installs) == len(FINAL)
    assert all("--only-binary :all:" in line for line in installs)
    assert all("--no-cache-dir" in line or "PIP_NO_CACHE_DIR=1" in DOCKERFILE for line in installs)


def test_images_are_pinned():
    tags = re.findall(r"_IMAGE=(\S+)", DOCKERFILE) + [s["image"] for s in SERVICES.values()]
    assert len(tags) == len(SERVICES) + 1
    assert not [tag for tag in tags if ":" not in tag or tag.endswith(":latest")]


@pytest.mark.parametrize(
    ("extra", "never"),
    [
        (
            "gateway,dicom",
            {"onnxruntime", "onnxruntime-openvino", "onnxruntime-gpu", "torch", "onnx"},
        ),
        ("worker-cpu,dicom", {"torch", "onnxruntime-gpu", "onnx"}),
        ("worker-gpu,dicom", {"torch", "onnxruntime-openvino", "onnx"}),
    ],
)
def test_extra_of_an_image_leaves_out_what_the_face_must_not_know(extra, never):
    assert f"[{extra}]" in DOCKERFILE
    assert not packages_of(extra) & never


def test_the_live_face_has_one_onnxruntime_and_no_torch():
    assert '".[worker-cpu,live]"' in DOCKERFILE
    found = packages_of("worker-cpu,live")
    assert {"grpcio", "onnxruntime-openvino", "prometheus-client"} <= found
    assert not {"torch", "onnxruntime-gpu", "fastapi", "onnx"} & found


def test_the_gateway_finds_the_live_process_where_it_listens():
    live = environment_of("live")
    assert (
        environment_of("gateway")["WARPLINE_LIVE_ADDRESS"] == f"live:{live['WARPLINE_LIVE_PORT']}"
    )
    assert set(SERVICES["live"]["networks"]) & set(SERVICES["gateway"]["networks"])
    assert f"127.0.0.1:{live['WARPLINE_LIVE_HTTP_PORT']}/healthz" in DOCKERFILE


def test_the_trainer_has_one_torch_and_one_onnxruntime():
    assert '".[worker-cpu,dicom,trainer]"' in DOCKERFILE
    found = packages_of("worker-cpu,dicom,trainer")
    assert "torch" in found
    assert not {"onnxruntime", "onnxruntime-gpu"} & found
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pins = [p for p in project["optional-dependencies"]["trainer"] if p.startswith("torch")]
    assert pins == ["torch==2.13.0"]


def test_a_training_may_take_less_memory_than_its_container_has():
    given_mib = int(environment_of("trainer")["WARPLINE_TRAIN_MEMORY_MIB"])
    limit = SERVICES["trainer"]["deploy"]["resources"]["limits"]["memory"]
    assert given_mib < int(limit.removesuffix("g")) * 1024


def test_copied_paths_exist_and_pass_dockerignore():
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source in allowed, source


def environment_of(service: str) -> dict[str, str]:
    return SERVICES[service].get("environment", {})


def test_compose_sets_only_settings_that_exist():
    variables = {f"WARPLINE_{name.upper()}" for name in Settings.model_fields}
    for service in OURS:
        assert environment_of(service).keys() <= variables
    for service in set(OURS) - WITHOUT_STORES:
        assert environment_of(service)["WARPLINE_DATABASE_URL"].startswith("postgresql+psycopg://")


def test_live_sessions_know_no_secret_but_the_keys_of_callers():
    known = environment_of("live")
    assert not [name for name in known if re.search(r"DATABASE|S3|REDIS", name)]
    assert "WARPLINE_API_KEYS" in known


def test_settings_accept_what_compose_says(monkeypatch):
    for service in OURS:
        for name, value in environment_of(service).items():
            monkeypatch.setenv(name, re.sub(r"\$\{[^}]*:-([^}]*)\}", r"\1", value))
        assert not Settings(_env_file=None).is_embedded or service in WITHOUT_STORES


def test_secrets_have_no_defaults():
    secret = re.compile(r"PASSWORD|SECRET|_KEY")
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    for name, rest in re.findall(r"\$\{([A-Z0-9_]+)([^}]*)\}", text):
        assert not secret.search(name) or rest.startswith(":?"), name
    example = (ROOT / "deploy" / "compose.env.example").read_text("utf-8")
    required = set(re.findall(r"\$\{([A-Z0-9_]+):\?", text))
    assert set(re.findall(r"^([A-Z0-9_]+)=$", example, re.MULTILINE)) == required


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_service_is_hardened_and_limited(service):
    what = SERVICES[service]
    assert what["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in what["security_opt"]
    assert what["read_only"] is True
    assert what["deploy"]["resources"]["limits"]["memory"]
    if service in OURS:
        assert what["user"] == "10001:10001"
        assert "cap_add" not in what


@pytest.mark.parametrize("service", sorted(set(SERVICES) - set(ONE_SHOT)))
def test_long_running_service_has_a_health_check(service):
    image_checks = {"gateway", "worker", "worker-gpu", "live", "trainer"}
    assert "healthcheck" in SERVICES[service] or service in image_checks


def test_targets_networks_and_volumes_exist():
    for name, what in SERVICES.items():
        if "build" in what:
            assert what["build"]["target"] in stages(), name
        assert set(what["networks"]) <= COMPOSE["networks"].keys()
        named = {mount.split(":")[0] for mount in what.get("volumes", [])}
        assert named <= COMPOSE["volumes"].keys()
        for other in what.get("depends_on", {}):
            assert other in SERVICES


def test_only_faces_are_published_and_on_loopback_by_default():
    published = {name: what["ports"] for name, what in SERVICES.items() if "ports" in what}
    assert published.keys() == {"gateway", "objects"}
    for ports in published.values():
        assert all(port.startswith("${WARPLINE_BIND:-127.0.0.1}:") for port in ports)


def test_the_broker_forgets_on_purpose_and_never_evicts():
    command = SERVICES["broker"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert command[command.index("--appendonly") + 1] == "no"
