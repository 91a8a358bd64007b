"""VoxelMorph-torch's network: seconds of one forward pass, without any accuracy.

No trained weights come with the package, so what it would reach is not known; the network is the
package's default, on the moving image resampled to the fixed grid by the headers, filled up to
multiples of 32 voxels. Only the network, integration and warp are timed.

Source: Balakrishnan et al., VoxelMorph: a learning framework for deformable medical image
registration, 2019.
"""

import time
from pathlib import Path
from typing import Any

from benchmarks.comparison.systems.fields import resampled
from benchmarks.comparison.systems.pair import Outcome, Pair, Run

MULTIPLE = 32


def forward() -> Run:
    import SimpleITK
    import torch
    import voxelmorph

    torch.manual_seed(0)
    network = voxelmorph.nn.models.VxmPairwise(3, source_channels=1, target_channels=1).eval()

    def run(pair: Pair, _folder: Path) -> Outcome:
        fixed, moving = (
            SimpleITK.ReadImage(str(file), SimpleITK.sitkFloat32)
            for file in (pair.fixed, pair.moving)
        )
        near = resampled(
            fixed, moving, SimpleITK.Transform(3, SimpleITK.sitkIdentity), SimpleITK.sitkLinear
        )
        images = [_filled_up(SimpleITK.GetArrayFromImage(image)) for image in (near, fixed)]
        begun = time.perf_counter()
        with torch.inference_mode():
            network(*images, return_warped_source=True)
        return Outcome(None, None, seconds=time.perf_counter() - begun)

    return run


def _filled_up(data: Any) -> Any:
    """0 to 1, one batch of one channel, with zeros behind."""
    import torch

    image = torch.from_numpy(data)
    image = (image - image.min()) / (image.max() - image.min())
    more = [side for length in reversed(image.shape) for side in (0, -length % MULTIPLE)]
    return torch.nn.functional.pad(image, more)[None, None]
