"""The transfer syntaxes that this service decodes: no others reach a decoder.

Deflated data sets are left out: two megabytes of them can hold four gigabytes.
"""

from typing import Final

IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"

TRANSFER_SYNTAXES: Final[dict[str, str]] = {
    IMPLICIT: "implicit little endian",
    EXPLICIT: "explicit little endian",
    "1.2.840.10008.1.2.4.57": "JPEG lossless",
    "1.2.840.10008.1.2.4.70": "JPEG lossless",
    "1.2.840.10008.1.2.4.80": "JPEG-LS",
    "1.2.840.10008.1.2.4.81": "JPEG-LS",
    "1.2.840.10008.1.2.4.90": "JPEG 2000",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.4.201": "high-throughput JPEG 2000",
    "1.2.840.10008.1.2.4.202": "high-throughput JPEG 2000",
    "1.2.840.10008.1.2.4.203": "high-throughput JPEG 2000",
    "1.2.840.10008.1.2.5": "RLE",
}

# One decoder for each, so that what was tested is what runs.
DECODERS: Final[dict[str, str]] = {
    "JPEG lossless": "gdcm",
    "JPEG-LS": "pyjpegls",
    "JPEG 2000": "pylibjpeg",
    "high-throughput JPEG 2000": "pylibjpeg",
    "RLE": "pylibjpeg",
}
LOSSLESS_JPEG: Final = frozenset({"1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"})


def decoder_of(syntax: str) -> str:
    """pydicom's name for the decoder; empty for pixels that are not compressed."""
    return DECODERS.get(TRANSFER_SYNTAXES.get(syntax, ""), "")
