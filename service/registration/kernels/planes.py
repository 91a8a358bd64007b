"""Volumes as planes: float32 (ni, nj * nk), a row for each index i, and a margin around all."""

from service.registration.kernels.launch import device

MARGIN = 2  # voxels on each side


@device
def extend_plane(plane, nk):
    """Repeat the outermost inner values through the margin, so that it pulls on nothing."""
    nj = plane.size // nk
    for j in range(MARGIN, nj - MARGIN):
        row = plane[j * nk : (j + 1) * nk]
        row[:MARGIN] = row[MARGIN]
        row[nk - MARGIN :] = row[nk - MARGIN - 1]
    for e in range(MARGIN):
        plane[e * nk : (e + 1) * nk] = plane[MARGIN * nk : (MARGIN + 1) * nk]
        last = (nj - MARGIN - 1) * nk
        plane[last + (e + 1) * nk : last + (e + 2) * nk] = plane[last : last + nk]
