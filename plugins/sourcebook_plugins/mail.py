"""Mails (.eml), through the standard library's email package: RFC 5322 and MIME, encoded words and all."""

from __future__ import annotations

import codecs
import mimetypes
from collections.abc import Iterable, Iterator
from datetime import datetime
from email.message import EmailMessage
from typing import Any

from sourcebook import ComponentSettings, DocumentWriter, Parser, ParserFile, Place, hookimpl
from sourcebook.errors import DocumentError, Malformed, NoText
from sourcebook_plugins.hypertext import declared_encoding
from sourcebook_plugins.markup import Markup, parse_html
from sourcebook_plugins.text import decode, paragraphs

_SHOWN = ("From", "To", "Cc", "Date", "Subject")
_KNOWN = ("from", "to", "subject", "date", "message-id", "received", "mime-version", "content-type", "return-path")
_DEEPEST = 50  # multiparts inside of multiparts


class MailParser(Parser[ComponentSettings]):
    """Reads the header lines that a person sees and the text; of HTML and plain text that say the same, the plain one.

    Attachments and forwarded mails become sources of their own. A locator is the part's number ("1.2") and the block.
    Raises `Malformed` for what is no mail, and `NoText`.
    """

    name = "eml"
    media_types = ("message/rfc822", "message/global")
    extensions = (".eml",)
    preload = ("email.message", "email.parser", "email.policy", "selectolax.lexbor", "sourcebook_plugins.markup")

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        """See the class."""
        mail = _read(file.read(), out)
        if not any(name.lower() in _KNOWN for name in mail):
            raise Malformed("This is not a mail: it has no header lines.")
        out.meta(**_metadata(mail))
        header = [(name, _header(mail, name)) for name in _SHOWN]
        lines = "\n".join(f"{name}: {value}" for name, value in header if value)
        out.block([(lines, Place(part="header"))])
        written = 0
        for number, part in _parts(mail):
            if _is_text(part):
                written += _write(part, number, out)
            else:
                _attach(part, number, out)
        if not (written or lines):
            raise NoText("The mail holds no text.")


def _read(data: bytes, out: DocumentWriter) -> EmailMessage:
    from email import message_from_bytes
    from email.policy import default

    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF8)):
        data = decode(data, out).encode()  # saved by an editor, not sent
    if b"\0" in data[:1024]:
        raise Malformed("This is binary data, not a mail.")
    try:
        return message_from_bytes(data.lstrip(b"\r\n"), policy=default)
    except (ValueError, LookupError, RecursionError) as error:
        raise Malformed("The mail is damaged.") from error


def _header(mail: EmailMessage, name: str) -> str:
    """A header line as text; "" where there is none, or one that the standard library cannot read."""
    try:
        return " ".join(str(mail.get(name) or "").split())[:1000]
    except Exception:  # its header parser fails on hostile lines in many ways
        return ""


def _metadata(mail: EmailMessage) -> dict[str, Any]:
    found: dict[str, Any] = {"title": _header(mail, "Subject"), "message_id": _header(mail, "Message-ID")}
    if sender := _header(mail, "From"):
        found["authors"] = [sender]
    found["recipients"] = [to for name in ("To", "Cc") if (to := _header(mail, name))]
    try:
        sent = mail["Date"].datetime if mail["Date"] is not None else None
    except Exception:  # see above
        sent = None
    if isinstance(sent, datetime):
        found["created"] = sent.isoformat()
    return found


def _parts(mail: EmailMessage) -> Iterator[tuple[str, EmailMessage]]:
    """The leaves with their numbers, of alternatives the one that is read. Without recursion: mails may be hostile."""
    waiting: list[tuple[str, Any, int]] = [("", mail, 0)]
    while waiting:
        number, part, depth = waiting.pop()
        below = part.get_payload() if part.is_multipart() and part.get_content_maintype() == "multipart" else None
        if not isinstance(below, list) or depth > _DEEPEST:
            yield number or "1", part
            continue
        numbered = [(f"{number}.{i}".lstrip("."), inner, depth + 1) for i, inner in enumerate(below, start=1)]
        if part.get_content_subtype() == "alternative":
            numbered = _chosen(numbered)
        waiting.extend(reversed(numbered))


def _chosen(alternatives: list[tuple[str, Any, int]]) -> list[tuple[str, Any, int]]:
    """The plain text where it says something (some mails have an empty one), and what is no other form of it."""
    plain = [a for a in alternatives if a[1].get_content_type() == "text/plain"]
    said = [a for a in plain if len((a[1].get_payload() or "").strip()) > 20]
    rest = [a for a in alternatives if a not in plain]
    return (
        said[:1] + [a for a in rest if a[1].get_content_maintype() not in ("text", "multipart")]
        if said
        else rest or plain
    )


def _is_text(part: EmailMessage) -> bool:
    return part.get_content_maintype() == "text" and part.get_content_disposition() != "attachment"


def _payload(part: EmailMessage) -> bytes:
    """The bytes of a part; empty where its transfer encoding is damaged beyond reading."""
    try:
        data = part.get_payload(decode=True)
    except (ValueError, LookupError, AssertionError):
        return b""
    return data if isinstance(data, bytes) else b""


def _write(part: EmailMessage, number: str, out: DocumentWriter) -> int:
    data = _payload(part)
    if not data.strip():
        return 0
    try:
        charset = str(part.get_content_charset() or "")
        if part.get_content_subtype() == "html":
            tree = parse_html(decode(data, out, charset or declared_encoding(data)))
            markup = Markup(out, {"part": number}, navigation=True)
            if tree.body is not None:
                markup.write(tree.body)
            return markup.number
        count = 0
        for count, text in enumerate(paragraphs(decode(data, out, charset)), start=1):
            out.block([(text, Place(part=number, paragraph=count))])
    except (Malformed, NoText) as error:
        out.warn("part_damaged", f"Part {number} was left out: {error.detail}")
        return 0
    return count


def _attach(part: EmailMessage, number: str, out: DocumentWriter) -> None:
    """Hand out a file; pictures that an HTML body shows are decoration, and stay out."""
    if part.get_content_maintype() == "image" and part.get_content_disposition() != "attachment":
        return
    name = _filename(part) or f"part {number}{mimetypes.guess_extension(part.get_content_type()) or ''}"
    if part.get_content_maintype() == "message":
        inner = part.get_payload()
        data = inner[0].as_bytes() if isinstance(inner, list) and inner else b""  # type: ignore[union-attr]
        name = name if name.lower().endswith(".eml") else f"{name.rpartition('.')[0] or name}.eml"
    else:
        data = _payload(part)
    if data:
        try:
            out.member(name, data)
        except DocumentError as error:
            out.warn("attachment_left_out", f"The attachment {name} was left out: {error.detail}")


def _filename(part: EmailMessage) -> str:
    try:
        return part.get_filename() or ""
    except Exception:  # see `_header`
        return ""


@hookimpl
def register_parsers() -> Iterable[type[Parser[Any]]]:
    """Mails."""
    return [MailParser]
