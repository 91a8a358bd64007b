"""Where a fault of the data lies, in words that name nobody.

The trainer names files, and file names may name a patient. What a job's problem says goes through
a database, a broker and logs; so there a file is a place, as `train/fixed_images, file 3 of 5 by
name`, which whoever has the data can count to. `warpline train` on their own machine names it.
"""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

# What folders and files are called where nobody chose another name.
_KINDS = ("images", "labels", "points", "masks")
_ROLES = (*_KINDS, *(f"{side}_{kind}" for side in ("fixed", "moving") for kind in _KINDS))
LAYOUT = frozenset({"train", "valid", "test", *_ROLES, *(f"{role}.h5" for role in _ROLES)})
SOMEWHERE, POINTERS = "the data", ("/data", "/config")
PAIRED, LONGEST = "<-", 1000  # FIXED<-MOVING is a pair
_NUMBERED = re.compile(r"(?:(?P<file>.+), )?(?P<number>(?:row|group|pair) [0-9]+(?: of [0-9]+)?)")


def placed(fault: Mapping[str, Any], root: Path | None) -> dict[str, str]:
    """A fault as it may be told: a place and what is wrong there.

    Args:
        fault: `field`, a path below the data root, a row of a list or a JSON pointer; `place`, a
            row or a number, where the trainer knows one for a field that is neither; `detail`.
        root: The data root.
    """
    field = _place(str(fault.get("place") or fault.get("field") or ""), root)
    return {"field": field, "detail": str(fault.get("detail") or "")[:LONGEST]}


def _place(name: str, root: Path | None) -> str:
    if name.startswith(POINTERS):
        return name[:LONGEST]
    if PAIRED in name:
        return PAIRED.join(_place(part, root) for part in name.split(PAIRED))
    if match := _NUMBERED.fullmatch(name):
        within = _counted(match["file"], root) if match["file"] else ""
        return SOMEWHERE if within is None else ", ".join(filter(None, (within, match["number"])))
    # Of `FILE.h5:KEY` the file.
    return _counted(name, root) or _counted(name.partition(":")[0], root) or SOMEWHERE


def _counted(name: str, root: Path | None) -> str | None:
    """A path as a place; None if there is no such file or folder and it is none of the layout."""
    parts = PurePosixPath(name).parts
    if root is None or not parts or ".." in parts or name.startswith("/"):
        return None
    words, folder = "", root
    for part in parts:
        is_plain = part in LAYOUT
        word = part if is_plain else _number(part, folder)
        if word is None:
            return None
        words += ("/" if is_plain else ", ") + word if words else word
        folder = folder / part
    return words


def _number(name: str, folder: Path) -> str | None:
    found = list(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []
    wanted = next((path for path in found if path.name == name), None)
    if wanted is None:
        return None
    kind = "folder" if wanted.is_dir() else "file"
    alike = sorted(path.name for path in found if path.is_dir() == wanted.is_dir())
    return f"{kind} {alike.index(name) + 1} of {len(alike)} by name"
