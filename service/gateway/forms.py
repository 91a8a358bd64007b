"""multipart/form-data read as it arrives: files straight to disk, fields in bounded memory.

A part is a file because of its name, which is its role; what the client calls its file is not even
kept in memory, since it may name a patient.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from service.errors import ValidationError
from service.gateway.spool import BATCH_BYTES, Arrival, Sink

MOST_PARTS = 64
FIELD_BYTES = 64 * 1024


@dataclass(frozen=True)
class Form:
    """What a form brought: text fields, and files by role."""

    fields: dict[str, str]
    files: dict[str, Arrival]


@dataclass
class FormReader:
    """Turns the parser's callbacks into fields and files in `folder`.

    Raises:
        ValidationError: From any callback, when the form has an unknown, doubled or nameless part.
    """

    folder: Path
    roles: Collection[str]
    known_fields: Collection[str]
    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, Arrival] = field(default_factory=dict)
    parts: int = 0
    ended: bool = False
    _header: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _name: str | None = None
    _text: bytearray = field(default_factory=bytearray)
    _sink: Sink | None = None

    def parser(self, boundary: bytes) -> MultipartParser:
        """A parser that calls this reader."""
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._open,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        )

    def _begin(self) -> None:
        self.parts += 1
        self._name, self._sink, self._text = None, None, bytearray()
        if self.parts > MOST_PARTS:
            raise ValidationError(f"A form may have {MOST_PARTS} parts; this one has more.")

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._header, self._value = bytearray(), bytearray()

    def _open(self) -> None:
        name = self._name
        if not name or (name not in self.roles and name not in self.known_fields):
            known = ", ".join(sorted([*self.roles, *self.known_fields]))
            raise ValidationError(f"A part of the form has no known name. Known are: {known}.")
        if name in self.files or name in self.fields:
            raise ValidationError(f"The form brings {name} twice.", field=name)
        if name in self.roles:
            self._sink = Sink(self.folder / name)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._sink is not None:
            self._sink.write(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > FIELD_BYTES:
            raise ValidationError("A form field is too long.", field=self._name)

    def _end(self) -> None:
        name = self._name or ""
        if self._sink is not None:
            self.files[name] = self._sink.close()
            self._sink = None
        else:
            self.fields[name] = _decoded(bytes(self._text), name)

    def _finish(self) -> None:
        self.ended = True

    def close(self) -> None:
        """Close the file that the form broke off in, if any."""
        if self._sink is not None:
            self._sink.close()
            self._sink = None


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValidationError("A form field is not UTF-8 text.", field=name) from None


async def read_form(
    request: Request, folder: Path, roles: Collection[str], known_fields: Collection[str]
) -> Form:
    """Read the request's form; its files come to lie in `folder` under their roles.

    Raises:
        ValidationError: If it is not a well-formed form of the known parts.
        BodyTooLargeError, RequestTimeoutError: From the request's guard.
    """
    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if not boundary:
        raise ValidationError("The Content-Type names no boundary between the form's parts.")
    reader = FormReader(folder, roles, known_fields)
    try:
        parser = reader.parser(boundary)
        gathered = bytearray()
        async for chunk in request.stream():
            gathered += chunk
            if len(gathered) >= BATCH_BYTES:
                whole, gathered = bytes(gathered), bytearray()
                await run_in_threadpool(parser.write, whole)
        await run_in_threadpool(parser.write, bytes(gathered))
    except FormParserError:
        raise ValidationError("The body is not well-formed multipart/form-data.") from None
    finally:
        reader.close()
    if not reader.ended:
        raise ValidationError("The form ends before its closing boundary.")
    return Form(reader.fields, reader.files)
