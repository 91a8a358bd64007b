"""Installed packages are not older than the releases that mended known holes."""

from importlib.metadata import PackageNotFoundError, version

import pytest
from packaging.version import Version

FLOORS = {
    "celery": "5.6",
    "fastapi": "0.165",  # its own server-sent events
    "onnx": "1.21",
    "python-multipart": "0.0.34",  # denial of service by crafted parts
    "starlette": "1.3.1",  # body limits
    "torch": "2.10",
}


@pytest.mark.parametrize("package", sorted(FLOORS))
def test_installed_package_has_the_mended_release(package):
    try:
        installed = version(package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    assert Version(installed) >= Version(FLOORS[package])


def test_one_onnxruntime_at_most():
    builds = ("onnxruntime", "onnxruntime-openvino", "onnxruntime-gpu")
    installed = []
    for build in builds:
        try:
            installed.append((build, version(build)))
        except PackageNotFoundError:
            continue
    assert len(installed) <= 1, "they all install the module `onnxruntime`; the last one wins"
