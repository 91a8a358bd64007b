"""The affine network: moments by hand, rotations by scipy, any image size."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

torch = pytest.importorskip("torch")

from trainer.config.networks import GlobalNetConfig  # noqa: E402
from trainer.networks.globalnet import GlobalNet, moments, rotation  # noqa: E402
from trainer.spatial import affine_displacement  # noqa: E402

BOTH = pytest.mark.parametrize("ndim", [2, 3])


def _config(**options: object) -> GlobalNetConfig:
    return GlobalNetConfig(channels_initial=2, depth=2, **options)


@BOTH
@pytest.mark.parametrize("encoder", ["plain", "resnet", "vgg"])
@pytest.mark.parametrize("freedom", ["affine", "rigid"])
def test_untrained_it_is_the_identity_on_any_size(ndim: int, encoder: str, freedom: str) -> None:
    network = GlobalNet(_config(encoder=encoder, freedom=freedom), ndim, channels=(2, 1))
    for shape in [(16, 8, 12), (8, 20, 4)]:
        size = shape[:ndim]
        matrix = network(torch.rand(2, 2, *size), torch.rand(2, 1, *size))
        torch.testing.assert_close(matrix, torch.eye(ndim, ndim + 1).expand(2, -1, -1))
        assert affine_displacement(matrix, size).abs().max() < 1e-6


@BOTH
def test_moments_are_sums_over_voxels(ndim: int) -> None:
    features = torch.rand(2, 3, *(4, 5, 6)[:ndim], dtype=torch.float64)
    found = moments(features).reshape(2, ndim + 1, 3).numpy()
    shape = np.reshape(features.shape[2:], (-1, *[1] * ndim))
    # The image reaches from -1 to 1, half a voxel beyond the outermost centres.
    places = (np.indices(features.shape[2:]) + 0.5) / shape * 2 - 1
    for n in range(2):
        for c in range(3):
            values = features[n, c].numpy()
            expected = [values.mean(), *(place * values for place in places)]
            expected = [np.mean(part) for part in expected]
            np.testing.assert_allclose(found[n, :, c], expected)


def test_rotations_in_space_are_scipys() -> None:
    turns = torch.randn(20, 3, dtype=torch.float64)
    quaternions = np.concatenate([turns.numpy() / 2, np.ones((20, 1))], axis=1)
    expected = Rotation.from_quat(quaternions).as_matrix()
    np.testing.assert_allclose(rotation(turns), expected, atol=1e-12)


def test_rotations_in_the_plane_are_by_twice_the_arc_tangent() -> None:
    turns = torch.tensor([[0.0], [0.3], [-2.0]], dtype=torch.float64)
    for turn, found in zip(turns[:, 0].numpy(), rotation(turns).numpy(), strict=True):
        angle = 2 * np.arctan(turn / 2)
        cos, sin = np.cos(angle), np.sin(angle)
        np.testing.assert_allclose(found, [[cos, -sin], [sin, cos]], atol=1e-12)


@BOTH
def test_rigid_matrices_keep_lengths(ndim: int) -> None:
    network = GlobalNet(_config(freedom="rigid"), ndim)
    torch.nn.init.normal_(network.matrix.weight)
    images = torch.rand(2, 3, 1, *(8, 12, 16)[:ndim])
    turned = network(images[0], images[1])[:, :, :ndim]
    assert (turned - torch.eye(ndim)).abs().max() > 0.01
    eye = torch.eye(ndim).expand(3, -1, -1)
    torch.testing.assert_close(turned @ turned.mT, eye, atol=1e-5, rtol=0)


def test_a_translation_is_learned_in_parts_of_the_image() -> None:
    network = GlobalNet(_config(), 2)
    with torch.no_grad():
        network.matrix.bias[:2] = torch.tensor([0.1, -0.2])
    small = network(torch.rand(1, 1, 8, 16), torch.rand(1, 1, 8, 16))
    large = network(torch.rand(1, 1, 32, 64), torch.rand(1, 1, 32, 64))
    torch.testing.assert_close(small[0, :, 2], torch.tensor([0.75, -1.5]))
    torch.testing.assert_close(large[0, :, 2], torch.tensor([3.15, -6.3]))


def _blobs(centres: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
    """Gaussians in 16 x 16 voxels, (b, 1, 16, 16)."""
    places = torch.arange(16.0)
    i, j = (
        torch.exp(-((places - centres[:, axis, None]) ** 2) / (2 * width[:, None] ** 2))
        for axis in range(2)
    )
    return (i[:, :, None] * j[:, None, :])[:, None]


def test_it_learns_how_far_a_blob_moved() -> None:
    torch.manual_seed(1)
    network = GlobalNet(GlobalNetConfig(channels_initial=4, depth=2), 2)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(45):
        centres, width = 4 + 8 * torch.rand(8, 2), 1 + 2 * torch.rand(8)
        shift = 6 * torch.rand(8, 2) - 3
        matrix = network(_blobs(centres, width), _blobs(centres + shift, width))
        loss = (matrix[:, :, 2] - shift).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    # Means alone, without first moments, come to 0.9 of where they started.
    assert sum(losses[-15:]) < 0.5 * sum(losses[:15])
