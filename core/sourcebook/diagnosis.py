"""Why something could not be reached, in words: from the chain of errors that it ended in."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from sourcebook.errors import SourcebookError


@dataclass(frozen=True)
class Diagnosis:
    """`code` is stable: dns, refused, tls, not_http, cut, unauthorized, not_found, dimensions, slow, busy, failed."""

    code: str
    words: str
    remedy: str = ""


_DNS = Diagnosis("dns", "its name does not resolve", "Check the host's name, and this machine's DNS.")
_REFUSED = Diagnosis("refused", "nothing listens at that address", "Start the server, or check host and port.")
_UNAUTHORIZED = Diagnosis("unauthorized", "it does not accept our credential", "Set a valid key or password.")
_SLOW = Diagnosis("slow", "it did not answer in time", "Look at its load, and for a firewall that drops packets.")
_BUSY = Diagnosis("busy", "it asks for patience", "Try again later, or raise the limit at the provider.")
_NOT_HTTP = Diagnosis("not_http", "what listens there does not speak plain HTTP", "Check the port, and http or https.")
_CUT = Diagnosis("cut", "it hung up before it had answered", "Read its log; it may be no web server, or want https.")
_NOT_FOUND = Diagnosis(
    "not_found", "it is there, and does not know this model or path", "Check the model's name and the address."
)
_NO_DATABASE = Diagnosis("not_found", "it has no database of that name", "Make it: createdb NAME.")
_NO_TLS = Diagnosis("tls", "no TLS could be agreed on", "Check sslmode, and the certificates.")
_NOT_TLS = Diagnosis("tls", "TLS failed: what listens there may speak plain HTTP", "Check the port, and http or https.")
_DIMENSIONS = Diagnosis(
    "dimensions", "its vectors have another size than is configured", "Set `dimensions` to what the model makes."
)

# What drivers of databases say, who have one error for all.
_SAID: tuple[tuple[str, Diagnosis], ...] = (
    (r"failed to resolve host|name or service not known|nodename nor servname|name resolution", _DNS),
    (r"connection refused|no such file or directory", _REFUSED),
    (r"password authentication failed|no password supplied|role .* does not exist|no pg_hba", _UNAUTHORIZED),
    (r"refuses our key", _UNAUTHORIZED),
    (r"database .* does not exist", _NO_DATABASE),
    (r"does not support ssl|certificate", _NO_TLS),
    (r"timeout expired|timed out", _SLOW),
)
_STATUSES = {401: _UNAUTHORIZED, 403: _UNAUTHORIZED, 404: _NOT_FOUND, 408: _SLOW, 429: _BUSY, 504: _SLOW}


def diagnosed(error: BaseException) -> Diagnosis:
    """What the error comes down to; the remedy is the error's own where it has one."""
    found = _found(error)
    remedy = error.remedy if isinstance(error, SourcebookError) and error.remedy else found.remedy
    return Diagnosis(found.code, found.words, remedy)


def _found(error: BaseException) -> Diagnosis:
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, socket.gaierror):
            return _DNS
        if isinstance(one, ssl.SSLError):
            return _tls(one)
    for one in chain:
        details = one.details if isinstance(one, SourcebookError) else {}
        status = details.get("status") or getattr(one, "status_code", None)
        if status in _STATUSES:
            return _STATUSES[status]
    if any(isinstance(one, ConnectionRefusedError) for one in chain):
        return _REFUSED
    if any(isinstance(one, TimeoutError) or _code(one).endswith("timeout") for one in chain):
        return _SLOW
    said = " ".join(str(one) for one in chain).lower()
    for words, diagnosis in _SAID:
        if re.search(words, said):
            return diagnosis
    if "dimensions" in said or "not float32 of" in said:
        return _DIMENSIONS
    if any(_code(one) == "upstream_cut" for one in chain):
        return _CUT
    if any(_code(one) == "upstream_protocol_error" for one in chain):
        return _NOT_HTTP
    return Diagnosis("failed", "it answered with an error", "Read its log.")


def _tls(error: ssl.SSLError) -> Diagnosis:
    if not isinstance(error, ssl.SSLCertVerificationError):
        return _NOT_TLS
    remedy = "Name its authority in SSL_CERT_FILE, or the host by the name in the certificate."
    return Diagnosis("tls", f"its certificate is not trusted: {error.verify_message}", remedy)


def _code(error: BaseException) -> str:
    return error.problem_code if isinstance(error, SourcebookError) else ""


def _chain(error: BaseException | None, depth: int = 0) -> Iterator[BaseException]:
    """The error, what caused it, and so on; of a group, all of its errors."""
    if error is None or depth > 20:
        return
    yield error
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _chain(one, depth + 1)
    yield from _chain(getattr(error, "orig", None), depth + 1)
    yield from _chain(error.__cause__ or error.__context__, depth + 1)
