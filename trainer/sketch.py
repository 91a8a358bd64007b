"""A picture of one pair as the network registers it now."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from service.registration.grid import Grid
from service.registration.pictures import Scene, overlay_picture
from service.registration.volume import Volume
from trainer.data.batch import Batch
from trainer.forward import Forward, Prediction
from trainer.spatial import jacobian_determinant


def draw_pair(path: Path, batch: Batch, forward: Forward) -> None:
    """Write the first pair of a batch: fixed in green, moving in magenta, before and after."""
    with forward.watched():
        prediction = forward(batch)
    shown = _shown(batch, prediction)
    if shown is None:
        return
    fixed, moving, warped, field = shown
    grid = _grid(batch)
    vectors = np.moveaxis(_array(field[0], batch), 0, -1)
    in_mm = np.zeros((*grid.shape, 3), np.float32)
    in_mm[..., : vectors.shape[-1]] = vectors * np.array(batch.spacing_mm, np.float32)
    scene = Scene(
        fixed=Volume(_array(fixed[0, 0], batch), grid),
        before=_array(moving[0, 0], batch),
        warped=_array(warped[0, 0], batch),
        displacement_mm=in_mm,
        jacobian=lambda: _array(jacobian_determinant(field)[0], batch),
        affine=np.eye(4),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(overlay_picture(scene))


def _shown(batch: Batch, prediction: Prediction) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """Fixed, moving, warped and field; of a network without a field, the first label."""
    if prediction.warped is not None and prediction.displacement is not None:
        return batch.fixed, batch.moving, prediction.warped, prediction.displacement
    labels = batch.fixed_labels, batch.moving_labels, prediction.warped_labels
    if labels[0] is None or labels[1] is None or labels[2] is None:
        return None
    still = torch.zeros((1, len(batch.spacing_mm), *batch.size))
    return labels[0], labels[1], labels[2], still


def _grid(batch: Batch) -> Grid:
    """The model grid with its first voxel at the world's origin; slices are one voxel thick."""
    spacing = np.array([*batch.spacing_mm, 1.0][:3])
    i, j, k = (*batch.size, 1)[:3]
    return Grid((i, j, k), np.diag([*spacing, 1.0]))


def _array(values: Tensor, batch: Batch) -> np.ndarray:
    """A tensor whose last axes are the grid's, on three of them."""
    array: np.ndarray = values.detach().float().cpu().numpy()
    return np.ascontiguousarray(array.reshape((*array.shape, 1)) if len(batch.size) == 2 else array)
