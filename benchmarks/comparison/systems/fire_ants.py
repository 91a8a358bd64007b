"""FireANTs on the CPU, with the settings of its quick start; it starts from image centres.

Source: Jena et al., FireANTs: Adaptive Riemannian optimization for multi-scale diffeomorphic
registration, 2024.
"""

from pathlib import Path

from benchmarks.comparison.systems.fields import delivered, displacement
from benchmarks.comparison.systems.pair import Outcome, Pair, Run

SCALES = (4, 2, 1)
AFFINE_STEPS, STEPS = (200, 100, 50), (200, 100, 25)
WINDOW = 5


def affine_and_greedy() -> Run:
    from fireants.io import BatchedImages, Image
    from fireants.registration.affine import AffineRegistration
    from fireants.registration.greedy import GreedyRegistration

    def run(pair: Pair, folder: Path) -> Outcome:
        fixed, moving = (
            BatchedImages([Image.load_file(str(file), device="cpu")])
            for file in (pair.fixed, pair.moving)
        )
        images = {"fixed_images": fixed, "moving_images": moving, "cc_kernel_size": WINDOW}
        quiet = {"progress_bar": False}
        affine = AffineRegistration(
            list(SCALES),
            list(AFFINE_STEPS),
            optimizer="Adam",
            optimizer_lr=3e-3,
            init_rigid="cof",
            **images,
            **quiet,
        )
        affine.optimize()
        found = GreedyRegistration(
            list(SCALES),
            list(STEPS),
            deformation_type="compositive",
            smooth_grad_sigma=1,
            optimizer="adam",
            optimizer_lr=0.5,
            init_affine=affine.get_affine_matrix().detach(),
            **images,
            **quiet,
        )
        found.optimize()
        found.save_as_ants_transforms(str(folder / "field.nii.gz"))
        return delivered(pair, folder, displacement(folder / "field.nii.gz"))

    return run
