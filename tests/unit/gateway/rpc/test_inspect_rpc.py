"""`Inspect` tells what `POST /inspect` does."""

from pathlib import Path

import grpc
import pytest

from service.pb import warpline_pb2 as pb
from tests.dicom_malformed_series import without
from tests.unit.gateway.rpc.conftest import WITHIN_S, Rpc
from tests.unit.gateway.test_inspect import packed


def test_an_upload_is_told_as_over_rest(rpc: Rpc, tmp_path: Path) -> None:
    without(5)(tmp_path / "gap")
    upload = rpc.api.upload(packed(tmp_path / "gap"))
    told = rpc.stub.Inspect(pb.InspectRequest(upload_id=upload), timeout=WITHIN_S)
    shown = rpc.api.post("/v1/inspect", json={"upload_id": upload}).json()
    assert (told.format, told.verdict, told.volume_count) == ("dicom", shown["verdict"], 1)
    volume, other = told.volumes[0], shown["volumes"][0]
    assert list(volume.shape) == other["shape"] == [6, 5, 12]
    assert list(volume.affine) == [value for row in other["affine"] for value in row]
    assert list(volume.warnings) == other["warnings"]
    assert volume.problem_code == ""


def test_what_is_not_there_is_told(rpc: Rpc) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        rpc.stub.Inspect(
            pb.InspectRequest(upload_id="6f1f0c1e-54a9-4d0c-9d5f-0d4f4f0e7c11"), timeout=WITHIN_S
        )
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
