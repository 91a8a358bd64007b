"""TLS of associations and of DICOMweb, from files that the peers' file names.

Source: DICOM PS3.15 annex B (BCP 195: TLS 1.2 and above, which is Python's default).
"""

import ssl
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Tls(BaseModel):
    """Certificates; what is left out is the system's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca_file: Path | None = Field(None, description="Who signs the other side's certificate.")
    certificate: Path | None = Field(None, description="Our own, where the other side asks.")
    key: Path | None = Field(None, description="Its private key.")

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("`certificate` and `key` go together")
        for path in (self.ca_file, self.certificate, self.key):
            if path is not None and not path.is_file():
                raise ValueError("a file of a certificate or key is not there")
        try:
            client_context(self)
        except OSError:  # ssl.SSLError is one
            raise ValueError("a certificate or key cannot be read, or they do not fit") from None
        return self


def client_context(tls: Tls) -> ssl.SSLContext:
    """What is asked of the other side's certificate, and our own."""
    context = ssl.create_default_context(cafile=tls.ca_file)
    _show(context, tls)
    return context


def server_context(tls: Tls) -> ssl.SSLContext:
    """For associations that others open to us: with `ca_file` they need a certificate, too."""
    context = _Unhurried(ssl.PROTOCOL_TLS_SERVER)
    _show(context, tls)
    if tls.ca_file is not None:
        context.load_verify_locations(tls.ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _show(context: ssl.SSLContext, tls: Tls) -> None:
    if tls.certificate is not None:
        # Without a password OpenSSL would ask for one where somebody might sit.
        context.load_cert_chain(tls.certificate, tls.key, password="")


class _Unhurried(ssl.SSLContext):
    """Leaves the handshake to whoever reads first, which is the association's own thread.

    The library would shake hands in the thread that accepts connections, without a limit in time:
    one that connects and says nothing would keep all others out.
    """

    SILENCE_S = 60.0

    def wrap_socket(self, sock: Any, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """As the base class, with a time limit and without a handshake."""
        sock.settimeout(self.SILENCE_S)
        later = kwargs | {"do_handshake_on_connect": False}
        return super().wrap_socket(sock, *args, **later)
