"""The fixed image of the last pair, kept with what was made of it: many are registered to one."""

from collections.abc import Mapping
from pathlib import Path

from service.checksums import sha256_of
from service.registration.engine import Engine
from service.registration.files.limits import Limits
from service.registration.options import RegisterOptions
from service.registration.pair import Pair, Read, read_files
from service.registration.prepared import PreparedFixed
from service.registration.roles import REGISTER_ROLES

FIXED_ROLES = tuple(role for role in REGISTER_ROLES if role.startswith("fixed"))
# A larger image is not kept: with what is made of it, that would be more than half a gigabyte.
MOST_KEPT_VOXELS = 40_000_000

Content = tuple[object, ...]


class KeptFixed:
    """One fixed side at a time: another is read only after the last is let go. For one thread."""

    def __init__(self) -> None:
        self._content: Content | None = None
        self._read: dict[str, Read] = {}
        self._prepared: PreparedFixed | None = None
        self._made_for: tuple[Engine, object] | None = None

    def forget(self) -> None:
        """Let everything go."""
        self._content, self._read = None, {}
        self._prepared = self._made_for = None

    def known(
        self, files: Mapping[str, Path], options: RegisterOptions, limits: Limits
    ) -> dict[str, Read]:
        """The fixed files as read, now or for an earlier pair of which they were the same bytes.

        Raises:
            InvalidRequestError: As `pair.read_pair`.
        """
        fixed = {role: files[role] for role in FIXED_ROLES if role in files}
        content: Content = (
            options.fixed_series,
            limits,
            *((role, sha256_of(path)) for role, path in fixed.items()),
        )
        if "fixed" not in fixed:
            return {}  # which is told by whoever reads the pair
        if content != self._content:
            self.forget()
            self._read = read_files(fixed, options, limits)
            self._content = content
        return dict(self._read)

    def prepared(self, pair: Pair, options: RegisterOptions, engine: Engine) -> PreparedFixed:
        """The pair's fixed image made ready, as far as an earlier pair of it has needed it.

        Raises:
            InvalidPairError: If the model registers slices and the image is not one.
        """
        made_for = engine, options.refine
        if self._prepared is not None and self._made_for == made_for:
            return self._prepared
        seen = pair.fixed_tempering
        made = PreparedFixed(pair.fixed, pair.fixed_mask, engine, options, tempering=seen)
        if pair.fixed.data.size > MOST_KEPT_VOXELS:
            self.forget()
        else:
            self._prepared, self._made_for = made, made_for
        return made
