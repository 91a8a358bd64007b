"""Single DICOM files with one fault each, and the code of the refusal."""

import struct
import zlib
from functools import cache
from typing import Any

from tests.dicom_bytes import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    ITEM,
    ITEM_END,
    PIXELS,
    RLE,
    SEQUENCE,
    SEQUENCE_END,
    SOUND,
    UNDEFINED,
    Parts,
    explicit,
    file_of,
    fragments,
    image,
    implicit,
    meta,
    nested,
    text,
    uid,
    us,
)

Cases = dict[str, tuple[bytes, str]]

EXECUTABLES = {
    "windows": b"MZ\x90\0",
    "linux": b"\x7fELF\2\1\1",
    "script": b"#!/bin/sh\n",
    "mach-o-32": b"\xfe\xed\xfa\xce",
    "mach-o-64": b"\xfe\xed\xfa\xcf",
    "mach-o-32-swapped": b"\xce\xfa\xed\xfe",
    "mach-o-64-swapped": b"\xcf\xfa\xed\xfe",
    "mach-o-fat": b"\xca\xfe\xba\xbe",
}
SYNTAXES = {
    "big-endian": BIG_ENDIAN,
    "deflated": DEFLATED,
    "jpeg-baseline": "1.2.840.10008.1.2.4.50",
    "jpeg-extended": "1.2.840.10008.1.2.4.51",
    "jpip": "1.2.840.10008.1.2.4.94",
    "mpeg2": "1.2.840.10008.1.2.4.100",
    "mpeg4": "1.2.840.10008.1.2.4.102",
    "hevc": "1.2.840.10008.1.2.4.107",
    "smpte": "1.2.840.10008.1.2.7.1",
    "jpeg-xl": "1.2.840.10008.1.2.4.110",
    "private": "1.2.826.0.1.3680043.9",
    "words": "please decode me",
    "path": "../../etc/passwd",
    "very-long": "1." * 200,
}


def starts() -> Cases:
    """What it is, and how it says that it is encoded."""
    good = file_of()
    cases: Cases = {
        "empty": (b"", "no-dicom"),
        "one-byte": (b"D", "no-dicom"),
        "no-preamble": (good[128:], "no-dicom"),
        "no-magic": (good[:128] + b"DICN" + good[132:], "no-dicom"),
        "preamble-only": (bytes(128), "no-dicom"),
        "text": (b"This is no DICOM file, and long enough. " * 20, "no-dicom"),
        "magic-only": (bytes(128) + b"DICM", "corrupt-file"),
        "no-group-2": (bytes(128) + b"DICM" + image(), "corrupt-file"),
        "no-transfer-syntax": (meta("") + image(), "corrupt-file"),
        "group-2-implicit": (
            bytes(128) + b"DICM" + implicit((2, 0x10), uid(EXPLICIT)) + image(), "corrupt-file"),
        "group-2-past-the-end": (
            bytes(128) + b"DICM" + explicit((2, 0x10), b"UI", uid(EXPLICIT), 4000), "corrupt-file"),
        "group-2-of-4-gib": (
            bytes(128) + b"DICM" + explicit((2, 1), b"OB", b"\0\1", 0xFFFFFFF0) + image(),
            "corrupt-file"),
        "group-2-cut": (meta()[:150], "corrupt-file"),
        "implicit-said-explicit": (meta(EXPLICIT) + image(is_explicit=False), "corrupt-file"),
        "explicit-said-implicit": (meta(IMPLICIT) + image(), "truncated-file"),
    }  # fmt: skip
    for name, start in EXECUTABLES.items():
        cases[f"program-{name}"] = (file_of(preamble=start), "executable-preamble")
    for name, syntax in SYNTAXES.items():
        cases[f"syntax-{name}"] = (file_of(syntax=syntax), "transfer-syntax-unsupported")
    packer = zlib.compressobj(9, wbits=-15)
    packed = packer.compress(image() + bytes(1 << 24)) + packer.flush()
    cases["deflated-bomb"] = (meta(DEFLATED) + packed, "transfer-syntax-unsupported")
    return cases


def depths() -> Cases:
    """Sequences in sequences."""
    cases: Cases = {}
    for depth in (17, 300, 100_000):
        for is_defined in (False, True):
            for is_explicit in (False, True):
                name = f"deep-{depth}-{'defined' if is_defined else 'open'}"
                inside = nested(depth, is_defined=is_defined, is_explicit=is_explicit)
                syntax = EXPLICIT if is_explicit else IMPLICIT
                made = file_of({SEQUENCE: inside}, syntax=syntax)
                cases[f"{name}-{'explicit' if is_explicit else 'implicit'}"] = (
                    made, "dicom-too-deep")  # fmt: skip
    unknown = explicit(SEQUENCE, b"UN", nested(300, is_explicit=False)[8:], UNDEFINED)
    cases["deep-unknown-type"] = (file_of({SEQUENCE: unknown}), "dicom-too-deep")
    inner = nested(20, is_defined=True, is_explicit=False)
    private = explicit((0x0009, 0x1001), b"UN", implicit(ITEM, inner))
    cases["deep-in-private"] = (file_of({(0x0009, 0x1001): private}), "dicom-too-deep")
    return cases


def many() -> Cases:
    """More than a parser should be given."""
    item = implicit(ITEM)
    tags = b"".join(
        explicit((0x0009, n & 0xFFFF), b"SH", b"") for n in range(0x1000, 0x1000 + 61_000)
    )
    words = explicit((0x0011, 0x1001), b"SH", b"") * 450_000
    return {
        "items-500k": (
            file_of({SEQUENCE: explicit(SEQUENCE, b"SQ", item * 500_000)}), "dicom-too-complex"),
        "items-500k-open": (
            file_of({SEQUENCE: explicit(SEQUENCE, b"SQ", item * 500_000, UNDEFINED)}),
            "dicom-too-complex"),
        "elements-450k": (file_of({(0x0011, 0x1001): words}), "dicom-too-complex"),
        "elements-450k-implicit": (
            file_of({(0x0011, 0x1001): implicit((0x0011, 0x1001)) * 450_000}, syntax=IMPLICIT),
            "dicom-too-complex"),
        "items-of-elements": (
            file_of({SEQUENCE: explicit(SEQUENCE, b"SQ", implicit(ITEM, tags) * 7)}),
            "dicom-too-complex"),
        "fragments-450k": (
            meta(RLE) + image({PIXELS: fragments(*[b""] * 450_000)}), "dicom-too-complex"),
    }  # fmt: skip


def lengths() -> Cases:
    """Lengths that lie."""
    tag = (0x0008, 0x1030)
    cases: Cases = {
        f"value-of-{length}": (file_of({tag: explicit(tag, vr, b"abcd", length)}), "truncated-file")
        for vr, length in (
            (b"LO", 60_000), (b"UT", 0xFFFFFFF0), (b"OB", 0xFFFFFFFE), (b"UN", 1 << 31),
            (b"UC", 1 << 30), (b"OF", 123_456),
        )
    }  # fmt: skip
    cases |= {
        "pixels-of-4-gib": (
            file_of({PIXELS: explicit(PIXELS, b"OW", bytes(32), 0xFFFFFFF0)}), "truncated-file"),
        "pixels-too-long": (
            file_of({PIXELS: explicit(PIXELS, b"OW", bytes(32), 34)}), "truncated-file"),
        "pixels-too-short": (file_of({PIXELS: explicit(PIXELS, b"OW", bytes(30))}), "corrupt-file"),
        "pixels-empty": (file_of({PIXELS: explicit(PIXELS, b"OW")}), "corrupt-file"),
        "pixels-odd": (file_of({PIXELS: explicit(PIXELS, b"OW", bytes(31))}), "corrupt-file"),
        "pixels-missing": (file_of({PIXELS: None}), "no-dicom"),
        "pixels-open-but-plain": (
            file_of({PIXELS: explicit(PIXELS, b"OW", bytes(32), UNDEFINED)}), "corrupt-file"),
        "a-few-bytes-after": (file_of({(0xFFFC, 0xFFFC): b"abc"}), ""),
    }  # fmt: skip
    return cases


def sequences() -> Cases:
    """Sequences and items that do not fit into one another."""
    tag = (0x0008, 0x1030)
    in_item = explicit((0x0008, 0x1155), b"UI", uid("1.2"), 400)

    def wrong(part: bytes) -> bytes:
        return file_of({SEQUENCE: part})

    return {
        "sequence-past-the-end": (
            wrong(explicit(SEQUENCE, b"SQ", implicit(ITEM), 90_000)), "corrupt-file"),
        "sequence-of-4-gib": (
            wrong(explicit(SEQUENCE, b"SQ", implicit(ITEM), 0xFFFFFFF0)), "corrupt-file"),
        "item-past-its-sequence": (
            wrong(explicit(SEQUENCE, b"SQ", implicit(ITEM, b"", 400))), "corrupt-file"),
        "item-past-the-end": (
            wrong(explicit(SEQUENCE, b"SQ", implicit(ITEM, b"", 1 << 30), UNDEFINED)),
            "corrupt-file"),
        "value-past-its-item": (
            wrong(explicit(SEQUENCE, b"SQ", implicit(ITEM, in_item))), "corrupt-file"),
        "value-without-type": (file_of({tag: explicit(tag, b"\1\2", b"abcd")}), "corrupt-file"),
        "value-of-lower-case-type": (file_of({tag: explicit(tag, b"lo", b"a ")}), "corrupt-file"),
        "sequence-of-values": (
            wrong(explicit(SEQUENCE, b"SQ", explicit(tag, b"LO", b"ab"))), "corrupt-file"),
        "sequence-without-end": (
            meta() + explicit(SEQUENCE, b"SQ", implicit(ITEM), UNDEFINED), "truncated-file"),
        "item-without-end": (
            meta() + explicit(SEQUENCE, b"SQ", implicit(ITEM, b"", UNDEFINED), UNDEFINED),
            "truncated-file"),
        "ends-out-of-order": (
            wrong(explicit(SEQUENCE, b"SQ",
                           implicit(ITEM, b"", UNDEFINED) + implicit(SEQUENCE_END), UNDEFINED)),
            "corrupt-file"),
        "end-of-an-item-alone": (wrong(implicit(ITEM_END)), "corrupt-file"),
        "end-of-a-sequence-alone": (wrong(implicit(SEQUENCE_END)), "corrupt-file"),
        "item-alone": (wrong(implicit(ITEM, b"abcd")), "corrupt-file"),
    }  # fmt: skip


def cuts() -> Cases:
    """A good file that ends early, at every kind of place."""
    good = file_of({SEQUENCE: nested(2, is_defined=True)})
    start, pixels = len(meta()), good.index(struct.pack("<HH", *PIXELS))
    sequence = good.index(struct.pack("<HH", *SEQUENCE), start)
    at = {
        "in-a-tag": start + 2,
        "in-a-type": start + 5,
        "in-a-short-length": start + 7,
        "in-a-value": start + 13,
        "in-a-sequence-header": sequence + 9,
        "in-an-item-header": sequence + 16,
        "in-an-item": sequence + 24,
        "in-the-pixels-header": pixels + 10,
        "before-the-pixels-value": pixels + 12,
        "in-the-pixels": pixels + 20,
        "before-the-last-byte": len(good) - 1,
    }
    cases: Cases = {f"cut-{name}": (good[:end], "truncated-file") for name, end in at.items()}
    cases["cut-in-an-item-header"] = (good[: at["in-an-item-header"]], "corrupt-file")
    cases["cut-in-an-item"] = (good[: at["in-an-item"]], "corrupt-file")
    cases["cut-before-the-pixels"] = (good[:pixels], "no-dicom")
    return cases


def pieces() -> Cases:
    """Compressed pixels that are not."""

    def rle(*parts: bytes, end: bytes | None = None, **sizes: int) -> bytes:
        changed: Parts = {PIXELS: fragments(*parts, end=end)}
        for name, value in sizes.items():
            tag = (0x0028, 0x0010 if name == "rows" else 0x0011)
            changed[tag] = explicit(tag, b"US", us(value))
        return meta(RLE) + image(changed)

    header = struct.pack("<16L", 2, 64, 82, *[0] * 13)
    good = header + (b"\x0f" + bytes(16) + b"\0") * 2
    jpeg = {
        "jpeg-lossless": "1.2.840.10008.1.2.4.70",
        "jpeg-ls": "1.2.840.10008.1.2.4.80",
        "jpeg-2000": "1.2.840.10008.1.2.4.90",
        "htj2k": "1.2.840.10008.1.2.4.201",
    }
    cases: Cases = {
        "pieces-none": (meta(RLE) + image({PIXELS: explicit(
            PIXELS, b"OB", implicit(ITEM) + implicit(SEQUENCE_END), UNDEFINED)}), "corrupt-file"),
        "pieces-no-table": (meta(RLE) + image({PIXELS: explicit(
            PIXELS, b"OB", implicit(SEQUENCE_END), UNDEFINED)}), "no-dicom"),
        "pieces-empty": (rle(b""), "corrupt-file"),
        "pieces-past-the-end": (rle(end=implicit(ITEM, b"ab", 5000)), "truncated-file"),
        "pieces-of-4-gib": (rle(end=implicit(ITEM, b"ab", 0xFFFFFFF0)), "truncated-file"),
        "pieces-without-end": (rle(good, end=b""), "truncated-file"),
        "pieces-end-cut": (rle(good, end=b"\xfe\xff\xdd"), "truncated-file"),
        "pieces-open-item": (rle(end=implicit(ITEM, b"", UNDEFINED)), "truncated-file"),
        "pieces-then-values": (rle(good, end=explicit(SEQUENCE, b"LO", b"ab")), "corrupt-file"),
        "pieces-end-of-item": (rle(good, end=implicit(ITEM_END)), "corrupt-file"),
        "rle-header-cut": (rle(header[:30]), "corrupt-file"),
        "rle-200-segments": (rle(struct.pack("<16L", 200, *[64] * 15) + good), "corrupt-file"),
        "rle-offset-past-the-end": (
            rle(struct.pack("<16L", 2, 64, 1 << 30, *[0] * 13) + good[64:]), "corrupt-file"),
        "rle-too-short": (rle(good[:70]), "corrupt-file"),
        "rle-noise": (rle(bytes(range(256)) * 2), "corrupt-file"),
        "rle-30000-squared": (rle(bytes(100), rows=30_000, columns=30_000), "volume-too-large"),
        "rle-2000-squared": (rle(bytes(100), rows=2000, columns=2000), "volume-too-large"),
        "rle-but-plain": (meta(RLE) + image(), "corrupt-file"),
        "plain-but-pieces": (meta(EXPLICIT) + image({PIXELS: fragments(good)}), "corrupt-file"),
    }  # fmt: skip
    for name, syntax in jpeg.items():
        noise = b"\xff\xd8\xff\xc3" + bytes(range(200))
        cases[f"{name}-noise"] = (meta(syntax) + image({PIXELS: fragments(noise)}), "corrupt-file")
        cases[f"{name}-empty"] = (meta(syntax) + image({PIXELS: fragments(b"")}), "corrupt-file")
        cases[f"{name}-not-in-pieces"] = (meta(syntax) + image(), "corrupt-file")
    return cases


ROWS, COLUMNS, PLACE, TURNED = (0x28, 0x10), (0x28, 0x11), (0x20, 0x32), (0x20, 0x37)
SPACING, SLOPE = (0x28, 0x30), (0x28, 0x1053)
# Name, attribute, value (None: left out), code, and the type where a sound image has none.
VALUES: tuple[tuple[Any, ...], ...] = (
    ("rows-none", ROWS, None, "no-dicom"),
    ("rows-0", ROWS, us(0), "bad-dimensions"),
    ("columns-none", COLUMNS, None, "bad-dimensions"),
    ("columns-0", COLUMNS, us(0), "bad-dimensions"),
    ("rows-65535", ROWS, us(65_535), "volume-too-large"),
    ("columns-65535", COLUMNS, us(65_535), "volume-too-large"),
    ("rows-of-one-byte", ROWS, b"\4", "invalid-dicom"),
    ("rows-several", ROWS, us(4) + us(4), "bad-dimensions"),
    ("rows-empty", ROWS, b"", "bad-dimensions"),
    ("place-none", PLACE, None, "invalid-dicom"),
    ("place-empty", PLACE, b"", "invalid-dicom"),
    ("place-nan", PLACE, text("nan\\0\\0"), "invalid-dicom"),
    ("place-infinite", PLACE, text("0\\inf\\0"), "invalid-dicom"),
    ("place-1e300", PLACE, text("0\\1e300\\0"), "invalid-dicom"),
    ("place-200-m-away", PLACE, text("200000\\0\\0"), "bad-affine"),
    ("place-of-two", PLACE, text("0\\0"), "invalid-dicom"),
    ("place-of-four", PLACE, text("0\\0\\0\\0"), "invalid-dicom"),
    ("place-words", PLACE, text("here\\or\\there"), "invalid-dicom"),
    ("place-binary", PLACE, b"\xff\xfe\0\1", "invalid-dicom"),
    ("turned-none", TURNED, None, "invalid-dicom"),
    ("turned-zero", TURNED, text("0\\0\\0\\0\\0\\0"), "invalid-dicom"),
    ("turned-parallel", TURNED, text("1\\0\\0\\1\\0\\0"), "invalid-dicom"),
    ("turned-oblique-angle", TURNED, text("1\\0\\0\\0.5\\0.8\\0"), "invalid-dicom"),
    ("turned-too-long", TURNED, text("2\\0\\0\\0\\2\\0"), "invalid-dicom"),
    ("turned-nan", TURNED, text("nan\\0\\0\\0\\1\\0"), "invalid-dicom"),
    ("turned-of-five", TURNED, text("1\\0\\0\\0\\1"), "invalid-dicom"),
    ("spacing-none", SPACING, None, "invalid-dicom"),
    ("spacing-0", SPACING, text("0\\0"), "bad-spacing"),
    ("spacing-negative", SPACING, text("-1\\1"), "bad-spacing"),
    ("spacing-nan", SPACING, text("nan\\1"), "invalid-dicom"),
    ("spacing-10-m", SPACING, text("10000\\1"), "bad-spacing"),
    ("spacing-1-nm", SPACING, text("1e-6\\1"), "bad-spacing"),
    ("spacing-of-one", SPACING, text("1"), "invalid-dicom"),
    ("thickness-negative", (0x18, 0x50), text("-2"), "bad-spacing"),
    ("slope-nan", SLOPE, text("nan"), "invalid-dicom", b"DS"),
    ("slope-infinite", SLOPE, text("inf"), "invalid-dicom", b"DS"),
    ("slope-1e300", SLOPE, text("1e300"), "invalid-dicom", b"DS"),
    ("slope-words", SLOPE, text("steep"), "invalid-dicom", b"DS"),
    ("slope-two", SLOPE, text("1\\2"), "invalid-dicom", b"DS"),
    ("intercept-nan", (0x28, 0x1052), text("nan"), "invalid-dicom", b"DS"),
    ("colour", (0x28, 0x02), us(3), "unsupported-datatype"),
    ("bits-0", (0x28, 0x100), us(0), "unsupported-datatype"),
    ("bits-1", (0x28, 0x100), us(1), "unsupported-datatype"),
    ("bits-12", (0x28, 0x100), us(12), "unsupported-datatype"),
    ("bits-64", (0x28, 0x100), us(64), "unsupported-datatype"),
    ("bits-none", (0x28, 0x100), None, "unsupported-datatype"),
    ("stored-0", (0x28, 0x101), us(0), "unsupported-datatype"),
    ("stored-40", (0x28, 0x101), us(40), "unsupported-datatype"),
    ("high-bit-40", (0x28, 0x102), us(40), "unsupported-datatype"),
    ("high-bit-0", (0x28, 0x102), us(0), "unsupported-datatype"),
    ("frames-several", (0x28, 0x08), text("3"), "invalid-dicom", b"IS"),
    ("frames-2-billion", (0x28, 0x08), text("2000000000"), "invalid-dicom", b"IS"),
    ("frames-words", (0x28, 0x08), text("many"), "corrupt-file", b"IS"),
    ("uid-path", (0x20, 0x0E), uid("../../etc/passwd"), "invalid-dicom"),
    ("uid-too-long", (0x08, 0x18), uid("1." * 40 + "1"), "invalid-dicom"),
    ("uid-null", (0x20, 0x0D), b"1.2\0/3", "invalid-dicom"),
    ("localiser", (0x08, 0x08), text("ORIGINAL\\PRIMARY\\LOCALIZER"), "localiser-only"),
)


def values() -> Cases:
    """Attributes that say something absurd."""
    cases: Cases = {}
    for name, tag, value, code, *vr in VALUES:
        kind = vr[0] if vr else SOUND[tag][0]
        part = None if value is None else explicit(tag, kind, value)
        cases[name] = (file_of({tag: part}), code)
    return cases


@cache
def all_files() -> Cases:
    """Every case by name. A code of "" means that the file is read all the same."""
    made: Cases = {}
    for part in (starts(), depths(), many(), lengths(), sequences(), cuts(), pieces(), values()):
        made |= part
    return made
