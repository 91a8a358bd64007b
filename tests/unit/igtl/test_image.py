"""IMAGE messages: every voxel at its place in the world, as pyigtl and a case by hand say."""

import struct

import numpy as np
import pyigtl
import pytest
from numpy.testing import assert_allclose

from service.errors import IgtlImageError, IgtlLengthError, IgtlTooLargeError
from service.igtl.image import SCALARS, pack_image, unpack_image
from service.igtl.wire import Message, open_body, pack, parse_header
from service.registration.grid import Grid

SHAPE_IJK = (7, 4, 3)
MOST = 1 << 20


def rotation(angles_deg):
    a, b, c = np.deg2rad(angles_deg)
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return z @ y @ x


def ijk_to_ras(directions):
    affine = np.eye(4)
    affine[:3, :3] = directions * (0.7, 1.3, 4.0)
    affine[:3, 3] = (-31.5, 12.25, 208.0)
    return affine


GRIDS = {
    "RAS": ijk_to_ras(np.eye(3)),
    "LAS": ijk_to_ras(np.diag((-1, 1, 1))),
    "LPS": ijk_to_ras(np.diag((-1, -1, 1))),
    "turned": ijk_to_ras(np.eye(3)[:, [1, 2, 0]]),
    "oblique": ijk_to_ras(rotation((20, -35, 50))),
    "oblique, left-handed": ijk_to_ras(rotation((-14, 8, 31)) * (1, 1, -1)),
}
by_grid = pytest.mark.parametrize("affine", GRIDS.values(), ids=GRIDS)


def random_voxels(scalar, shape=SHAPE_IJK[::-1]):
    random = np.random.default_rng(3)
    if np.issubdtype(scalar, np.floating):
        return random.normal(size=shape).astype(scalar)
    info = np.iinfo(scalar)
    return random.integers(info.min, info.max, shape, scalar, endpoint=True)


def sent_by_pyigtl(message):
    data = message.pack()
    return open_body(parse_header(data[:58]), data[58:]).content


def read_by_pyigtl(content, version=1):
    data = pack(Message("IMAGE", content, device="Image"), version)
    header = pyigtl.messages.MessageBase.parse_header(data[:58])
    message = pyigtl.messages.MessageBase.create_message("IMAGE")
    message.unpack(header, data[58:])
    return message


def assert_same_places(part, affine_ijk_to_ras, shape_ijk=SHAPE_IJK):
    """The part's affine puts voxel (k, j, i) where the other one puts (i, j, k)."""
    ours, theirs = Grid(part.shape, part.affine), Grid(shape_ijk, affine_ijk_to_ras)
    ijk = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (6, 3, 2), (2, 3, 1)])
    assert_allclose(ours.to_world(ijk[:, ::-1]), theirs.to_world(ijk), atol=1e-4)  # mm


@by_grid
@pytest.mark.parametrize("space", ["ras", "lps"])
def test_pyigtl_images_lie_where_they_say(affine, space):
    flip = np.diag((-1, -1, 1, 1)) if space == "lps" else np.eye(4)
    voxels = random_voxels(np.int16)
    message = pyigtl.ImageMessage(voxels, flip @ affine, world_coordinate_system=space)
    part = unpack_image(sent_by_pyigtl(message), MOST)
    assert part.is_whole
    assert_same_places(part, affine)
    assert (part.voxels == voxels).all()


@by_grid
@pytest.mark.parametrize("version", [1, 2])
def test_pyigtl_reads_our_images_where_they_are(affine, version):
    voxels = random_voxels(np.float32)
    message = read_by_pyigtl(pack_image(voxels, affine[:, [2, 1, 0, 3]]), version)
    assert message.world_coordinate_system == "ras"
    assert_allclose(message.ijk_to_world_matrix, affine, atol=1e-4)
    assert (message.image == voxels).all()


@by_grid
def test_what_goes_out_comes_back(affine):
    voxels = random_voxels(np.uint8)
    part = unpack_image(pack_image(voxels, affine[:, [2, 1, 0, 3]]), MOST)
    assert_same_places(part, affine)
    assert (part.voxels == voxels).all()


def message_by_hand(**other):
    """Four voxels along i, two along j, one along k; steps 2, 3 and 5 mm along x, y and z."""
    said = {
        "version": 1, "components": 1, "scalar": 3, "endian": 1, "space": 1, "size": (4, 2, 1),
        "steps": (2, 0, 0, 0, 3, 0, 0, 0, 5), "centre": (10, 20, 30),
        "offset": (0, 0, 0), "box": (4, 2, 1), "voxels": bytes(range(8)),
    }  # fmt: skip
    said |= other
    head = [said[name] for name in ("version", "components", "scalar", "endian", "space")]
    return (
        struct.pack(">HBBBB", *head)
        + struct.pack(">3H", *said["size"])
        + struct.pack(">12f", *said["steps"], *said["centre"])
        + struct.pack(">6H", *said["offset"], *said["box"])
        + said["voxels"]
    )


def test_the_centre_lies_between_the_voxels_of_an_even_axis():
    part = unpack_image(message_by_hand(), MOST)
    grid = Grid(part.shape, part.affine)
    # Four voxels 2 mm apart about x = 10 begin at 7; two 3 mm apart about y = 20 at 18.5.
    assert_allclose(grid.to_world(np.array((0, 0, 0))), (7, 18.5, 30))
    assert_allclose(grid.to_world(np.array((0, 1, 3))), (13, 21.5, 30))
    assert part.voxels[0, 1, 3] == 7  # i runs fastest


@pytest.mark.parametrize("space", [0, 2])
def test_lps_turns_x_and_y_over(space):
    part = unpack_image(message_by_hand(space=space), MOST)
    assert_allclose(part.affine[:3, 3], (-7, -18.5, 30))


@pytest.mark.parametrize(("read", "x"), [("header", -7), ("lps", -7), ("ras", 7)])
def test_the_header_can_be_overruled(read, x):
    part = unpack_image(message_by_hand(space=2), MOST, read)
    assert part.affine[0, 3] == x


by_scalar = pytest.mark.parametrize("scalar", SCALARS.values(), ids=lambda s: s.__name__)


@by_scalar
def test_every_type_to_pyigtl_and_back(scalar):
    voxels = random_voxels(scalar)
    part = unpack_image(sent_by_pyigtl(pyigtl.ImageMessage(voxels)), MOST)
    again = read_by_pyigtl(pack_image(voxels, np.eye(4)))
    assert part.voxels.dtype == again.image.dtype == np.dtype(scalar)
    assert (part.voxels == voxels).all()
    assert (again.image == voxels).all()


@by_scalar
def test_every_type_with_the_high_byte_first(scalar):
    """pyigtl reads such messages but cannot write them, so one of its own is turned over."""
    voxels = random_voxels(scalar)
    content = bytearray(sent_by_pyigtl(pyigtl.ImageMessage(voxels)))
    content[4], content[72:] = 1, voxels.astype(np.dtype(scalar).newbyteorder(">")).tobytes()
    assert (read_by_pyigtl(bytes(content)).image == voxels).all()
    assert (unpack_image(content, MOST).voxels == voxels).all()
    turned = voxels.astype(np.dtype(scalar).newbyteorder(">"))
    assert pack_image(turned, np.eye(4)) == pack_image(voxels, np.eye(4))


def test_vectors_are_interleaved():
    field = random_voxels(np.float32, (3, 4, 7, 3))
    assert (read_by_pyigtl(pack_image(field, np.eye(4))).image == field).all()
    part = unpack_image(sent_by_pyigtl(pyigtl.ImageMessage(field)), MOST)
    assert (part.voxels == field).all()
    assert part.is_whole


def test_a_sub_volume_says_where_it_belongs():
    content = message_by_hand(offset=(1, 1, 0), box=(3, 1, 1), voxels=b"abc")
    part = unpack_image(content, MOST)
    assert (part.offset, part.shape, part.voxels.shape) == ((0, 1, 1), (1, 2, 4), (1, 1, 3))
    assert not part.is_whole
    assert_allclose(part.affine, unpack_image(message_by_hand(), MOST).affine)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"version": 2}, IgtlImageError),
        ({"scalar": 8}, IgtlImageError),
        ({"endian": 3}, IgtlImageError),
        ({"space": 3}, IgtlImageError),
        ({"components": 0}, IgtlImageError),
        ({"steps": (2, 0, 0, 0, 3, 0, 0, 0, 0)}, IgtlImageError),
        ({"steps": (2, 0, 0, 4, 0, 0, 0, 0, 5)}, IgtlImageError),
        ({"centre": (float("nan"), 0, 0)}, IgtlImageError),
        ({"voxels": bytes(7)}, IgtlLengthError),
        ({"voxels": bytes(9)}, IgtlLengthError),
        ({"size": (0, 2, 1)}, IgtlLengthError),
        ({"box": (0, 2, 1), "voxels": b""}, IgtlLengthError),
        ({"offset": (1, 0, 0)}, IgtlLengthError),
        ({"size": (65535, 65535, 65535)}, IgtlTooLargeError),
        ({"size": (65535, 65535, 65535), "box": (65535, 65535, 65535)}, IgtlTooLargeError),
    ],
)
def test_images_that_lie_are_refused(said, error):
    with pytest.raises(error):
        unpack_image(message_by_hand(**said), MOST)


@pytest.mark.parametrize("size", [0, 71])
def test_images_shorter_than_their_header_are_refused(size):
    with pytest.raises(IgtlLengthError):
        unpack_image(message_by_hand()[:size], MOST)


@pytest.mark.parametrize("voxels", [np.zeros((2, 2, 2), bool), np.zeros((2, 70_000, 1), np.uint8)])
def test_what_has_no_place_in_an_image_is_refused(voxels):
    with pytest.raises(IgtlImageError):
        pack_image(voxels, np.eye(4))
