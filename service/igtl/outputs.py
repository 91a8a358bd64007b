"""What the peers are sent for an answer."""

import json
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from service.igtl.contents import (
    StatusCode,
    pack_points,
    pack_status,
    pack_string,
    pack_transform,
)
from service.igtl.frames import Frame
from service.igtl.image import pack_image
from service.igtl.session import Answer, Placed, Role, Verdict
from service.igtl.wire import Message
from service.registration.grid import Matrix4

Output = Literal["transform", "grid", "labels", "image", "points", "frame", "text"]
OUTPUTS: tuple[Output, ...] = get_args(Output)
Linear = Literal["affine", "rigid"]

# Device names, which 3D Slicer gives to the nodes that it makes. At most 20 bytes.
NAMES: dict[Output, str] = {
    "transform": "ReferenceToImage",
    "grid": "WarplineGrid",
    "labels": "WarplineLabels",
    "image": "WarplineImage",
    "points": "WarplinePoints",
    "frame": "WarplineFrame",
    "text": "WarplineText",
}
STATUS_NAME = "Warpline"
OURS = frozenset((*NAMES.values(), STATUS_NAME))

CODES: dict[Verdict, StatusCode] = {
    "pass": StatusCode.OK,
    "warn": StatusCode.OK,
    "fail": StatusCode.UNKNOWN_ERROR,
}


@dataclass(frozen=True)
class Outputs:
    """Which outputs are wanted, and how."""

    wanted: frozenset[Output] = frozenset({"transform"})
    role: Role = "moving"  # of the reference
    linear: Linear = "affine"
    sends_failed: bool = False
    point_names: tuple[str, ...] = ()

    def messages(self, answer: Answer, frame: Frame) -> list[Message]:
        """Every message for an answer, STATUS last; for a verdict of fail only STATUS.

        A viewer keeps showing what it was sent before: a transform that cannot be trusted is held
        back, unless `sends_failed`.
        """
        made = [] if self._is_held(answer) else self._results(answer, frame)
        if "frame" in self.wanted:
            made.insert(0, self._message("frame", "IMAGE", answer, frame))
        if "text" in self.wanted:
            made.append(self._message("text", "STRING", answer, frame))
        status = pack_status(
            CODES[answer.verdict], answer.verdict, sentence_of(answer), answer.number
        )
        return [*made, Message("STATUS", status, STATUS_NAME, frame.stamp, metadata_of(answer))]

    def _is_held(self, answer: Answer) -> bool:
        return answer.verdict == "fail" and not self.sends_failed

    def _results(self, answer: Answer, frame: Frame) -> list[Message]:
        kinds: tuple[tuple[Output, str], ...] = (
            ("image", "IMAGE"), ("labels", "IMAGE"), ("grid", "IMAGE"), ("points", "POINT"),
            ("transform", "TRANSFORM"),
        )  # fmt: skip
        return [
            self._message(output, kind, answer, frame)
            for output, kind in kinds
            if output in self.wanted and self._has(output, answer)
        ]

    @staticmethod
    def _has(output: Output, answer: Answer) -> bool:
        parts = {
            "image": answer.warped_image,
            "labels": answer.warped_labels,
            "grid": answer.field,
            "points": answer.points_mm,
        }
        return output == "transform" or parts[output] is not None

    def _message(self, output: Output, kind: str, answer: Answer, frame: Frame) -> Message:
        content = self._content(output, answer, frame)
        return Message(kind, content, NAMES[output], frame.stamp, metadata_of(answer))

    def _content(self, output: Output, answer: Answer, frame: Frame) -> bytes:
        if output == "transform":
            return pack_transform(self.reference_to_frame(answer))
        if output == "points":
            positions = np.zeros((0, 3)) if answer.points_mm is None else answer.points_mm
            return pack_points(positions, self._names(len(positions)), NAMES["frame"])
        if output == "text":
            return pack_string(json.dumps(facts_of(answer)))
        return _image(self._placed(output, answer, frame))

    @staticmethod
    def _placed(output: Output, answer: Answer, frame: Frame) -> Placed:
        parts = {
            "image": answer.warped_image,
            "labels": answer.warped_labels,
            "grid": answer.field,
        }
        return parts.get(output) or Placed(frame.voxels, frame.affine)

    def _names(self, count: int) -> list[str]:
        names = list(self.point_names[:count])
        return names + [str(number + 1) for number in range(len(names), count)]

    def reference_to_frame(self, answer: Answer) -> Matrix4:
        """The matrix that moves the reference, and what lies in its space, onto the frame.

        3D Slicer takes it as the transform to the parent: a point p of the reference is at M p in
        the frame. An answer's matrix goes from fixed to moving, so it is turned round where the
        reference is the moving image.
        """
        matrix = answer.affine if self.linear == "affine" else answer.rigid
        return matrix if self.role == "fixed" else np.linalg.inv(matrix)


def _image(placed: Placed) -> bytes:
    voxels = placed.voxels
    if voxels.dtype == np.float16:  # which OpenIGTLink does not have
        voxels = voxels.astype(np.float32)
    return pack_image(voxels, placed.affine)


def sentence_of(answer: Answer) -> str:
    """An answer in a line, for people."""
    figures = (
        f"frame {answer.number}: {answer.verdict}, {answer.latency_ms:.0f} ms, "
        f"moved {answer.motion_median_mm:.1f} mm, at most {answer.motion_max_mm:.1f} mm"
    )
    return ". ".join((figures, *answer.reasons))


def facts_of(answer: Answer) -> dict[str, object]:
    """An answer's figures, for programs."""
    return {
        "frame": answer.number,
        "verdict": answer.verdict,
        "reasons": list(answer.reasons),
        "latency_ms": round(answer.latency_ms, 3),
        "motion_median_mm": round(answer.motion_median_mm, 3),
        "motion_max_mm": round(answer.motion_max_mm, 3),
    }


def metadata_of(answer: Answer) -> dict[str, str]:
    """What every message of an answer carries for peers that speak protocol 3."""
    return {"WarplineFrame": str(answer.number), "WarplineVerdict": answer.verdict}
