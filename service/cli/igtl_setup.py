"""What `warpline igtl` is made of, out of what was said on the command line."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from service.client.live_terms import LiveTerms
from service.errors import ValidationError
from service.igtl.bridge import Bridge
from service.igtl.image import Coordinates
from service.igtl.live_session import LiveOpener, Reference
from service.igtl.outputs import OUTPUTS, Linear, Output, Outputs
from service.igtl.session import Role
from service.igtl.tally import Tally
from service.registration.files.affine_text import read_affine
from service.registration.files.limits import Limits
from service.registration.files.points_file import read_points
from service.registration.files.volume_file import read_label_map, read_volume
from service.registration.volume import Volume, require_same_grid
from service.settings import Settings

DEFAULT_PORT = 18944


@dataclass(frozen=True)
class Said:
    """What was said on the command line, checked there."""

    reference: Path
    labels: Path | None
    mask: Path | None
    points: Path | None
    initial_transform: Path | None
    device: str | None
    coordinates: Coordinates
    out: str
    linear: Linear
    half_grid: bool
    send_failed: bool
    role: Role
    budget_ms: int
    every: bool
    warm_start: bool
    rigid_only: bool
    options: Mapping[str, Any]
    url: str
    api_key: str | None


def make_bridge(said: Said, tally: Tally) -> Bridge:
    """Read the reference and join everything; nobody is connected yet.

    Raises:
        InvalidFileError: If a file cannot be read.
        ValidationError: If an output has no name of one, or needs what was not given.
    """
    from service.client.rpc_channel import Address

    Address.of(said.url)
    wanted = wanted_of(said)
    names: tuple[str, ...] = ()
    terms = _plain_terms(said, wanted)
    limits = Limits(Settings().max_voxels, Settings().max_axis)
    volume = read_volume(said.reference, limits, "reference")
    for name, path in (("labels", said.labels), ("mask", said.mask)):
        if path is not None:
            terms[name] = _beside(path, volume, name, limits).data
    if said.points is not None:
        points = read_points(said.points)
        terms["points"], names = points.positions_mm, points.ids or ()
    if said.initial_transform is not None:
        terms["initial_transform"] = read_affine(said.initial_transform).matrix
    opener = LiveOpener(
        said.url,
        Reference.of(volume),
        cast(LiveTerms, terms),
        said.api_key,
        say=tally.say,
    )
    outputs = Outputs(wanted, said.role, said.linear, said.send_failed, names)
    return Bridge(
        opener,
        outputs,
        tally,
        device=said.device,
        coordinates=said.coordinates,
        takes_every=said.every,
    )


def wanted_of(said: Said) -> frozenset[Output]:
    """The outputs that were named.

    Raises:
        ValidationError: If there is no such output, or what it is made of was not given.
    """
    names = {name.strip() for name in said.out.split(",")} - {""}
    if unknown := names - set(OUTPUTS):
        raise ValidationError(
            f"--out: there is no {', '.join(sorted(unknown))}; choose of {', '.join(OUTPUTS)}.",
            field="out",
        )
    for name, path in (("labels", said.labels), ("points", said.points)):
        if name in names and path is None:
            raise ValidationError(f"--out {name} needs the reference's --{name}.", field="out")
    if said.role == "fixed" and "labels" in names:
        raise ValidationError(
            "--out labels needs --role moving: labels of a fixed reference stay where they are.",
            field="out",
        )
    return cast("frozenset[Output]", frozenset(names))


def _plain_terms(said: Said, wanted: frozenset[Output]) -> dict[str, Any]:
    grid: Literal["half", "full"] = "half" if said.half_grid else "full"
    return {
        "role": said.role,
        "options": {name: value for name, value in said.options.items() if value is not None},
        "budget_ms": said.budget_ms,
        "field": grid if "grid" in wanted else "none",
        "warped_image": "image" in wanted,
        "warped_labels": "labels" in wanted,
        "moved_points": "points" in wanted,
        "rigid_only": said.rigid_only,
        "policy": "every" if said.every else "latest",
        "warm_start": said.warm_start,
    }


def _beside(path: Path, image: Volume, name: str, limits: Limits) -> Volume:
    labels = read_label_map(path, limits, name)
    require_same_grid(labels, image, name)
    return labels


def host_and_port(text: str) -> tuple[str, int]:
    """The two parts of HOST:PORT; the port of OpenIGTLink where there is none.

    Raises:
        ValidationError: If it is not that.
    """
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, str(DEFAULT_PORT)
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValidationError("--connect: write HOST:PORT, such as 192.168.1.5:18944.")
    return host.strip("[]"), int(port)
