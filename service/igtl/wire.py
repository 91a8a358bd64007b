"""OpenIGTLink messages as bytes: the header, the extended header and metadata, the checksum.

Header version 1 is the header and the content. Version 2 (protocol 3) puts an extended header
before the content and metadata behind it. Numbers are big endian.

Source: OpenIGTLink, Documents/Protocol/header.md and v3_proposal.md, and for the sizes of the
metadata the library's igtl_header.h, which has two where the proposal has one.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from service.errors import (
    IgtlChecksumError,
    IgtlLengthError,
    IgtlStreamError,
    IgtlTooLargeError,
    IgtlVersionError,
)
from service.igtl.crc import crc64

HEADER = struct.Struct(">H12s20sQQQ")
EXTENDED = struct.Struct(">HHII")
ENTRY = struct.Struct(">HHI")

KNOWN_VERSIONS = (1, 2, 3)
# A number above is no version: what arrives is not OpenIGTLink.
HIGHEST_VERSION = 255
UTF8 = 106  # IANA's number of the character set

NANOSECONDS, FRACTIONS = 10**9, 1 << 32


@dataclass(frozen=True)
class Header:
    """The 58 bytes that every message begins with."""

    version: int
    kind: str
    device: str = field(repr=False)  # may name a patient
    stamp: int  # seconds since 1970 times 2**32; 0 if unused
    body_bytes: int
    crc: int


@dataclass(frozen=True)
class Message:
    """A message: its kind, whose it is, when it was made, and the content of its kind."""

    kind: str
    content: bytes | memoryview = field(default=b"", repr=False)
    device: str = field(default="", repr=False)
    stamp: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    version: int = 1


def parse_header(data: bytes) -> Header:
    """The header of a message.

    Raises:
        IgtlStreamError: If the bytes are no header of OpenIGTLink.
    """
    version, kind, device, stamp, body_bytes, crc = HEADER.unpack(data)
    if not 1 <= version <= HIGHEST_VERSION:
        raise IgtlStreamError(
            "What arrives does not begin as a message of OpenIGTLink does. Is something else "
            "connected to this port?"
        )
    return Header(version, _text(kind), _text(device), stamp, body_bytes, crc)


def require_size(header: Header, most_bytes: int) -> None:
    """Refuse a body before memory is taken for it.

    Raises:
        IgtlTooLargeError: If it is announced larger than `most_bytes`.
    """
    if header.body_bytes > most_bytes:
        raise IgtlTooLargeError(
            f"A message announces {header.body_bytes} bytes; at most {most_bytes} are taken."
        )


def open_body(header: Header, body: bytes | memoryview) -> Message:
    """The message of a header and its body, checked. What the metadata says is not looked at.

    Raises:
        IgtlVersionError: If the header's version is not known.
        IgtlChecksumError: If the body has another checksum than the header states.
        IgtlLengthError: If extended header and metadata do not fit into the body.
    """
    if header.version not in KNOWN_VERSIONS:
        raise IgtlVersionError(
            f"The message has header version {header.version}; versions 1, 2 and 3 are known."
        )
    if crc64(body) != header.crc:
        raise IgtlChecksumError("A message arrived damaged: its checksum is wrong. Send it again.")
    content = memoryview(body)
    if header.version > 1:
        content = _between(content)
    return Message(
        header.kind, content, device=header.device, stamp=header.stamp, version=header.version
    )


def _between(body: memoryview) -> memoryview:
    """What lies between the extended header and the metadata."""
    if len(body) < EXTENDED.size:
        raise IgtlLengthError("A message of header version 2 is too short for its extended header.")
    before, index_bytes, text_bytes, _number = EXTENDED.unpack_from(body)
    after = index_bytes + text_bytes
    if before < EXTENDED.size or before + after > len(body):
        raise IgtlLengthError(
            f"A message of {len(body)} bytes states {before} bytes of extended header and "
            f"{after} of metadata."
        )
    return body[before : len(body) - after]


def pack(message: Message, version: int = 1) -> bytes:
    """The bytes of a message. Header version 1 has no room for metadata, which it leaves out."""
    body = bytes(message.content) if version == 1 else _with_metadata(message)
    kind, device = _fixed(message.kind, 12), _fixed(message.device, 20)
    head = HEADER.pack(version, kind, device, message.stamp, len(body), crc64(body))
    return head + body


def _with_metadata(message: Message) -> bytes:
    pairs = [(key.encode(), value.encode()) for key, value in message.metadata.items()]
    entries = [ENTRY.pack(len(key), UTF8, len(value)) for key, value in pairs]
    index = struct.pack(">H", len(pairs)) + b"".join(entries)
    texts = b"".join(part for pair in pairs for part in pair)
    extended = EXTENDED.pack(EXTENDED.size, len(index), len(texts), 0)
    return b"".join((extended, message.content, index, texts))


def nanoseconds(stamp: int) -> int | None:
    """A timestamp as nanoseconds since 1970; nothing where it is unused."""
    return (stamp * NANOSECONDS + FRACTIONS // 2) // FRACTIONS if stamp else None


def _text(padded: bytes) -> str:
    return padded.split(b"\0", 1)[0].decode("utf-8", "replace").strip()


def _fixed(text: str, size: int) -> bytes:
    """Text cut to a field, never in the middle of a character."""
    return text.encode()[:size].decode("utf-8", "ignore").encode()
