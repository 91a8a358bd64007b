"""Our kernels beside torch, SimpleITK and scipy, on the same cores, in one run.

    python benchmarks/kernels.py [--threads 2] [--repeats 9]

Every result is compared before anything is timed. Figures are medians; rounds of ours and theirs
alternate, so that a busy machine slows both. Needs the extra `peers`.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numba
import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch
from scipy.ndimage import gaussian_filter, map_coordinates
from torch.nn.functional import grid_sample, interpolate

from service.registration.fields import DisplacementField, VelocityField
from service.registration.grid import Grid
from service.registration.resample import integrate, resample_field, warp
from service.registration.volume import Volume

SHAPE, HALF = (160, 192, 224), (80, 96, 112)
Timed = dict[str, Callable[[], object]]


def medians_ms(timed: Timed, repeats: int) -> dict[str, float]:
    """Median milliseconds of each, taken in turns after one round to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in timed}
    for turn in range(repeats + 1):
        for name, work in timed.items():
            start = time.perf_counter()
            work()
            if turn:
                taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(times) for name, times in taken.items()}


def show(title: str, figures: dict[str, float]) -> None:
    ours = next(iter(figures.values()))
    print(f"\n{title}")
    for name, figure in figures.items():
        print(f"  {name:<46} {figure:8.1f} ms   {figure / ours:6.1f} x")


def check(name: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
    """Stop unless the results are equal."""
    worst = float(np.abs(ours - theirs).max())
    if not worst <= tolerance:
        raise SystemExit(f"{name} differs by {worst}, over {tolerance}")
    print(f"  equal to {name} within {worst:.1e}")


def make_pair(rng: np.random.Generator) -> tuple[Volume, DisplacementField]:
    """A volume and a half-resolution field of up to 8 mm; its edges lie where the volume's do."""
    grid = Grid(SHAPE, np.eye(4))
    volume = gaussian_filter(rng.random(SHAPE), 1).astype(np.float32)
    noise = np.stack([gaussian_filter(rng.standard_normal(HALF), 6) for _ in range(3)], -1)
    coarse = np.diag([2.0, 2.0, 2.0, 1.0])
    coarse[:3, 3] = 0.5
    field = DisplacementField(8 * noise / np.abs(noise).max(), Grid(HALF, coarse))
    return Volume(volume, grid), field


def torch_grid(vectors: np.ndarray) -> torch.Tensor:
    """Sampling positions of grid_sample, -1 to 1 between the outermost voxel centres, k first."""
    shape = vectors.shape[:3]
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1) + vectors
    scaled = 2 * index / (np.array(shape) - 1) - 1
    return torch.from_numpy(np.ascontiguousarray(scaled[None, ..., ::-1], dtype=np.float32))


def warps(rng: np.random.Generator, repeats: int) -> None:
    volume, field = make_pair(rng)
    full = resample_field(field, volume.grid)
    ours = warp(volume, field, volume.grid).data
    moving, at = torch.from_numpy(volume.data)[None, None], torch_grid(full.vectors_mm)
    half = torch.from_numpy(np.ascontiguousarray(field.vectors_mm.transpose(3, 0, 1, 2)))[None]
    identity = torch_grid(np.zeros((*SHAPE, 3), np.float32))
    scale = torch.tensor([2 / (n - 1) for n in SHAPE[::-1]])

    def by_torch() -> torch.Tensor:
        return grid_sample(moving, at, padding_mode="border", align_corners=True)

    def by_torch_upsampling() -> torch.Tensor:
        u = interpolate(half, scale_factor=2, mode="trilinear", align_corners=False)
        where = identity + u.permute(0, 2, 3, 4, 1).flip(-1) * scale
        return grid_sample(moving, where, padding_mode="border", align_corners=True)

    itk_moving, itk_field = itk_image(volume.data), itk_image(full.vectors_mm)

    def by_itk() -> sitk.Image:
        return sitk.Warp(itk_moving, itk_field, sitk.sitkLinear)

    index = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij")).astype(np.float32)
    index += full.vectors_mm.transpose(3, 0, 1, 2)

    def by_scipy() -> np.ndarray:
        return map_coordinates(volume.data, index, order=1, mode="nearest")

    inner = tuple(slice(9, -9) for _ in SHAPE)
    print("linear warp of 160 x 192 x 224, one channel, field at half resolution")
    check("torch", ours[inner], by_torch()[0, 0].numpy()[inner], 1e-4)
    check("torch, upsampling", ours[inner], by_torch_upsampling()[0, 0].numpy()[inner], 1e-4)
    check("SimpleITK", ours[inner], itk_array(by_itk())[inner], 1e-4)
    check("scipy", ours[inner], by_scipy()[inner], 1e-4)
    timed: Timed = {
        "ours, from the half-resolution field": lambda: warp(volume, field, volume.grid),
        "ours, field at full resolution": lambda: warp(volume, full),
        "torch grid_sample, grid given": by_torch,
        "torch, field upsampled and added": by_torch_upsampling,
        "SimpleITK Warp, full field given": by_itk,
        "scipy map_coordinates, indices given": by_scipy,
    }
    with torch.inference_mode():
        show("linear warp", medians_ms(timed, repeats))
    nearest: Timed = {
        "ours": lambda: warp(volume, field, volume.grid, interpolation="nearest"),
        "torch": lambda: grid_sample(moving, at, mode="nearest", align_corners=True),
        "SimpleITK": lambda: sitk.Warp(itk_moving, itk_field, sitk.sitkNearestNeighbor),
    }
    show("nearest warp", medians_ms(nearest, repeats))


def itk_image(array: np.ndarray) -> sitk.Image:
    """An array (i, j, k) or (i, j, k, 3) as an image with unit spacing."""
    order = (2, 1, 0, 3)[: array.ndim]
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(order)), array.ndim == 4)
    return sitk.Cast(image, sitk.sitkVectorFloat64) if array.ndim == 4 else image


def itk_array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0)


def squarings(rng: np.random.Generator, repeats: int) -> None:
    noise = np.stack([gaussian_filter(rng.standard_normal(HALF), 6) for _ in range(3)], -1)
    velocity = VelocityField(8 * noise / np.abs(noise).max(), Grid(HALF, np.eye(4)))
    start = torch.from_numpy(np.ascontiguousarray(velocity.vectors_mm.transpose(3, 0, 1, 2)))[None]
    identity = torch_grid(np.zeros((*HALF, 3), np.float32))
    scale = torch.tensor([2 / (n - 1) for n in HALF[::-1]])

    def by_torch() -> torch.Tensor:
        u = start / 2**7
        for _ in range(7):
            at = identity + u.permute(0, 2, 3, 4, 1).flip(-1) * scale
            u = u + grid_sample(u, at, padding_mode="border", align_corners=True)
        return u

    inner = tuple(slice(12, -12) for _ in HALF)
    print("\nseven squarings at 80 x 96 x 112")
    theirs = by_torch()[0].numpy().transpose(1, 2, 3, 0)
    check("torch", integrate(velocity, 7).vectors_mm[inner], theirs[inner], 1e-3)
    with torch.inference_mode():
        show(
            "squarings",
            medians_ms({"ours": lambda: integrate(velocity, 7), "torch": by_torch}, repeats),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    numba.set_num_threads(min(arguments.threads, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(arguments.threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(arguments.threads)
    rng = np.random.default_rng(0)
    warps(rng, arguments.repeats)
    squarings(rng, arguments.repeats)


if __name__ == "__main__":
    main()
