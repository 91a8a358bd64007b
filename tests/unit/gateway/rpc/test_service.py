"""What a stranger finds: health, reflection, TLS; and a client written from the proto alone."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_tools import protoc

from service.errors import ConfigurationError
from service.gateway.rpc.serving import RpcFace
from service.pb import warpline_pb2 as pb
from service.pb.warpline_pb2_grpc import WarplineServiceStub
from service.settings import Settings
from tests.unit.gateway.rpc.conftest import ENTRIES, KEYS, WITHIN_S, Rpc, bearer

ROOT = Path(__file__).parents[4]
PROTO = ROOT / "proto" / "warpline" / "v1"
SERVICES = ("warpline.v1.WarplineService", "warpline.v1.LiveService")


def test_health_needs_no_key_and_ends_with_the_process(make_rpc: Callable[..., Rpc]) -> None:
    rpc = make_rpc(api_keys=ENTRIES)
    health = health_pb2_grpc.HealthStub(rpc.channel)
    for name in ("", *SERVICES):
        answer = health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=WITHIN_S)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    rpc.api.app.state.desk.stopping.set()
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    with pytest.raises(grpc.RpcError):
        next(watch)


class Explorer:
    """Calls methods that it learns from the reflection service, as grpcurl does."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        self._pool = descriptor_pool.DescriptorPool()
        self._known: set[str] = set()

    def services(self) -> set[str]:
        answer = self._asked(reflection_pb2.ServerReflectionRequest(list_services=""))
        return {service.name for service in answer.list_services_response.service}

    def method(self, service: str, name: str) -> Any:
        self._learn(reflection_pb2.ServerReflectionRequest(file_containing_symbol=service))
        return self._pool.FindServiceByName(service).methods_by_name[name]

    def call(self, service: str, name: str, asked: dict[str, Any], metadata: Any) -> list[Any]:
        method = self.method(service, name)
        takes, gives = map(message_factory.GetMessageClass, (method.input_type, method.output_type))
        kind = "unary_stream" if method.server_streaming else "unary_unary"
        answers = getattr(self._channel, kind)(
            f"/{service}/{name}", takes.SerializeToString, gives.FromString
        )(json_format.ParseDict(asked, takes()), metadata=metadata, timeout=WITHIN_S)
        every = answers if method.server_streaming else [answers]
        return [json_format.MessageToDict(answer, descriptor_pool=self._pool) for answer in every]

    def _asked(self, request: reflection_pb2.ServerReflectionRequest) -> Any:
        return next(iter(self._ask(iter([request]), timeout=WITHIN_S)))

    def _learn(self, request: reflection_pb2.ServerReflectionRequest) -> None:
        for data in self._asked(request).file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(data)
            if file.name in self._known:
                continue
            self._known.add(file.name)
            for needed in file.dependency:
                self._learn(reflection_pb2.ServerReflectionRequest(file_by_filename=needed))
            self._pool.Add(file)


def test_everything_can_be_called_from_what_reflection_tells(make_rpc: Callable[..., Rpc]) -> None:
    rpc = make_rpc(api_keys=ENTRIES)
    explorer = Explorer(rpc.channel)
    assert explorer.services() >= {*SERVICES, "grpc.health.v1.Health"}
    job = rpc.api.register(headers={"Authorization": f"Bearer {KEYS['ada']}"}).json()["id"]
    rpc.api.work()

    def call(name: str, **asked: Any) -> list[Any]:
        return explorer.call(SERVICES[0], name, asked, bearer("ada"))

    assert call("GetJob", jobId=job)[0]["job"]["state"] == "JOB_STATE_SUCCEEDED"
    assert [one["event"]["type"] for one in call("WatchJob", jobId=job)][-1] == "succeeded"
    assert [one["id"] for one in call("ListJobs", states=["JOB_STATE_SUCCEEDED"])[0]["jobs"]] == [
        job
    ]
    assert len(call("ListResults", jobId=job)[0]["files"]) == 2
    assert explorer.method(SERVICES[1], "Live").client_streaming


FROM_THE_PROTO_ALONE = """
import sys, grpc
import warpline_pb2 as pb, warpline_pb2_grpc as stubs

target, key, job = sys.argv[1:]
key = (("authorization", f"Bearer {key}"),)
with grpc.insecure_channel(target) as channel:
    warpline = stubs.WarplineServiceStub(channel)
    found = warpline.GetJob(pb.GetJobRequest(job_id=job), metadata=key, timeout=120).job
    types = [
        answer.event.type
        for answer in warpline.WatchJob(pb.WatchJobRequest(job_id=job), metadata=key, timeout=120)
    ]
    try:
        warpline.ListJobs(pb.ListJobsRequest(), timeout=120)
    except grpc.RpcError as error:
        refused = error.code().name
print(pb.JobState.Name(found.state), *types, refused)
assert not [name for name in sys.modules if name.split(".")[0] == "service"]
"""


def strangers(folder: Path, code: str, *arguments: str) -> list[str]:
    """What a program prints that has the proto, and nothing else of ours."""
    include = f"-I{Path(protoc.__file__).parent / '_proto'}"
    outputs = (f"--python_out={folder}", f"--grpc_python_out={folder}")
    assert protoc.main(["protoc", f"-I{PROTO}", include, *outputs, "warpline.proto"]) == 0
    (folder / "client.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "client.py", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def adas_job(rpc: Rpc) -> str:
    job = rpc.api.register(headers={"Authorization": f"Bearer {KEYS['ada']}"}).json()["id"]
    assert rpc.api.work() == job
    return str(job)


def test_a_client_written_from_the_proto_alone(
    make_rpc: Callable[..., Rpc], tmp_path: Path
) -> None:
    rpc = make_rpc(api_keys=ENTRIES)
    target = f"127.0.0.1:{rpc.face.port}"
    told = strangers(tmp_path, FROM_THE_PROTO_ALONE, target, KEYS["ada"], adas_job(rpc))
    assert told == ["JOB_STATE_SUCCEEDED queued started succeeded UNAUTHENTICATED"]


def test_the_example_of_the_documents_works(make_rpc: Callable[..., Rpc], tmp_path: Path) -> None:
    rpc = make_rpc(api_keys=ENTRIES)
    page = (ROOT / "docs" / "grpc.md").read_text("utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    example = example.replace("127.0.0.1:8081", f"127.0.0.1:{rpc.face.port}")
    refused = strangers(tmp_path, example)
    assert refused[0].startswith("unauthenticated Send your API key")
    example = example.replace("wl_...", KEYS["ada"])
    assert strangers(tmp_path, example)[0].startswith("job-not-found There is no such job")
    nobodys = "00000000-0000-0000-0000-000000000000"
    told = strangers(tmp_path, example.replace(nobodys, adas_job(rpc)))
    assert told[-1] == "JOB_STATE_SUCCEEDED succeeded 100%"


def test_with_a_certificate_only_tls_gets_in(make_api: Callable[..., Any], tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    asked = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost "
        f"-keyout {key.name} -out {certificate.name}"
    )
    made = subprocess.run(
        ["openssl", *asked.split(), "-addext", "subjectAltName=DNS:localhost"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip("no openssl")
    api = make_api(grpc_tls_cert=certificate, grpc_tls_key=key)
    with RpcFace(api.app.state.desk, 0, grace_s=0.5) as face:
        trusted = grpc.ssl_channel_credentials(certificate.read_bytes())
        with grpc.secure_channel(f"localhost:{face.port}", trusted) as channel:
            assert WarplineServiceStub(channel).GetLimits(pb.GetLimitsRequest(), timeout=WITHIN_S)
        with grpc.insecure_channel(f"localhost:{face.port}") as plain:
            with pytest.raises(grpc.RpcError) as caught:
                WarplineServiceStub(plain).GetLimits(pb.GetLimitsRequest(), timeout=WITHIN_S)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_outside_loopback_there_must_be_keys_and_a_certificate_has_a_key(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="API keys"):
        Settings(host="192.0.2.1", grpc_port=8081)
    with pytest.raises(ValueError, match="go together"):
        Settings(grpc_tls_cert=tmp_path / "cert.pem")


def test_what_cannot_be_listened_with_is_told_at_the_start(
    make_rpc: Callable[..., Rpc], make_api: Callable[..., Any], tmp_path: Path
) -> None:
    rpc = make_rpc()
    with (
        pytest.raises(ConfigurationError, match="WARPLINE_GRPC_PORT"),
        RpcFace(make_api().app.state.desk, rpc.face.port),
    ):
        pass
    api = make_api(grpc_tls_cert=tmp_path / "no.pem", grpc_tls_key=tmp_path / "no.key")
    with (
        pytest.raises(ConfigurationError, match="cannot be read"),
        RpcFace(api.app.state.desk, 0),
    ):
        pass
