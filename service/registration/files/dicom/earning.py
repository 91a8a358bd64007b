"""The child's side of its time: it tells the parent what it has done that is worth some more.

A file that the gate has passed, and voxels that will come of it, earn time; what is stuck earns
none, so it is stopped soon. In other processes than the child nothing is told.
"""

from typing import IO

BEGUN, READ, MAKES = "begun", "read", "makes"

_parent: list[IO[str]] = []  # one at most


def tell_to(output: IO[str]) -> None:
    """Tell whoever reads this stream, in lines before the answer's."""
    _parent[:] = [output]


def _tell(what: str, size: int) -> None:
    for output in _parent:
        output.write(f"{what} {size}\n")
        output.flush()


def begun() -> None:
    """All is loaded; from now on strangers' bytes are read."""
    _tell(BEGUN, 0)


def has_read(size: int) -> None:
    """A file of so many bytes may be parsed."""
    _tell(READ, size)


def makes(size: int) -> None:
    """So many bytes of voxels will be made."""
    _tell(MAKES, size)
