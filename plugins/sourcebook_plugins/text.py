"""Plain text: the encoding found out, paragraphs at blank lines."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from string import whitespace
from typing import Any

from sourcebook import ComponentSettings, DocumentWriter, Parser, ParserFile, Place, hookimpl
from sourcebook.documents import MAX_TEXT
from sourcebook.errors import LimitExceeded, Malformed, NoText
from sourcebook.languages import detect

_SAMPLE = 64 * 1024
_EASTERN = ("cp1250", "iso8859_2", "iso8859_16", "mac_latin2", "cp852", "cp1257", "iso8859_4", "iso8859_13", "cp1258")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What no text holds: C0 controls but BEL to CR (with tab and line ends), SUB (an old end mark) and ESC (colours).
_WITHOUT_CONTROLS = dict.fromkeys(set(range(32)) - set(range(7, 14)) - {26, 27})
# What browsers take these names for (WHATWG Encoding): the larger set that the files really use.
_WEB_NAMES = {"iso-8859-1": "cp1252", "latin1": "cp1252", "latin-1": "cp1252", "us-ascii": "cp1252", "ascii": "cp1252"}
_WEB_NAMES |= {"shift_jis": "cp932", "shift-jis": "cp932", "x-sjis": "cp932", "gb2312": "gb18030", "gbk": "gb18030"}
_WEB_NAMES |= {"euc-kr": "cp949", "ks_c_5601-1987": "cp949", "iso-8859-9": "cp1254", "tis-620": "cp874"}
_TEXT_CODECS = ("cp", "iso", "koi8", "mac", "gb", "big5", "euc", "shift", "johab", "hz", "utf", "tis", "kz", "ptcp")
_PARAGRAPHS = re.compile(r"\n(?:[^\S\n]*\n)+")


class TextParser(Parser[ComponentSettings]):
    """Reads plain text in any encoding. A paragraph ends at a blank line; its locator is its number."""

    name = "text"
    media_types = ("text/plain",)
    extensions = (".txt", ".text", ".log")
    memory_safe = True

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        """Raises `Malformed` for binary data, `NoText` for a blank file."""
        write_paragraphs(decode(file.read(), out), out)


def paragraphs(text: str) -> list[str]:
    """What stands between blank lines."""
    return [paragraph for paragraph in _PARAGRAPHS.split(text) if paragraph.strip()]


def write_paragraphs(text: str, out: DocumentWriter) -> None:
    """Write what stands between blank lines, each with its number."""
    for number, paragraph in enumerate(paragraphs(text), start=1):
        out.block([(paragraph, Place(paragraph=number))])


def decode(data: bytes, out: DocumentWriter, declared: str = "") -> str:
    """The text of `data` with LF line ends: by its byte order mark, as UTF-8, or as what it most resembles.

    `declared` is the encoding that the file itself names; it is believed where the bytes allow it. A UTF-8 file with a
    few broken bytes stays UTF-8, and says so. Raises `Malformed` for binary data, `LimitExceeded`
    over `MAX_TEXT` characters and `NoText` where there is only white space.
    """
    if len(data) > 4 * MAX_TEXT + 4:
        raise _too_long()
    text = _decode(data, out, declared)
    sample = text[:_SAMPLE]
    if len(sample) - len(sample.translate(_WITHOUT_CONTROLS)) > len(sample) // 50:
        raise Malformed("This is binary data, not text.")
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x0c", "\n\n")
    if len(text) > MAX_TEXT:
        raise _too_long()
    if not text.strip("\ufeff" + whitespace) or text.isspace():
        raise NoText("The file is empty.")
    return text


def _too_long() -> LimitExceeded:
    return LimitExceeded(
        f"The file's text is longer than {MAX_TEXT:,} characters.",
        code="text_too_long",
        limit=MAX_TEXT,
    )


def _decode(data: bytes, out: DocumentWriter, declared: str) -> str:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    if (utf16 := _utf16_without_mark(data[:_SAMPLE])) is not None:
        return data.decode(utf16, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return _as_declared(data, declared) or _decode_legacy(data, out)


def _as_declared(data: bytes, declared: str) -> str:
    """The text in the encoding that the file names; "" where that cannot be: files are re-encoded and keep the name."""
    try:
        encoding = codecs.lookup(_WEB_NAMES.get(declared.lower(), declared)).name
        # Codecs that turn bytes into bytes have names too.
        return data.decode(encoding) if encoding.startswith(_TEXT_CODECS) else ""
    except (LookupError, ValueError):
        return ""


def _utf16_without_mark(sample: bytes) -> str | None:
    """Text in a Latin script has a zero in every second byte, and nowhere else."""
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    half = max(len(sample) // 2, 1)
    if odd > 0.4 * half and even < 0.02 * half:
        return "utf-16-le"
    if even > 0.4 * half and odd < 0.02 * half:
        return "utf-16-be"
    return None


def _decode_legacy(data: bytes, out: DocumentWriter) -> str:
    text = data.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    wide = len(text) - len(text.encode("ascii", "ignore")) - broken
    # Mostly well-formed sequences: UTF-8 that was cut or patched, and not another encoding, which has hardly any.
    if broken * 20 < wide:
        out.warn("encoding_errors", f"{broken} characters could not be read and were replaced.")
        return text
    encoding = _guess(data)
    out.meta(encoding=encoding)
    return data.decode(encoding, "replace")


def _guess(data: bytes) -> str:
    from charset_normalizer import from_bytes

    if 0 in data[:_SAMPLE]:  # no encoding that is left has zeros
        raise Malformed("This is binary data, not text.")
    # Whole lines only: half a character at the sample's end would speak against the right encoding.
    sample = data if len(data) <= _SAMPLE else data[: data.rfind(b"\n", 0, _SAMPLE) + 1] or data[:_SAMPLE]
    best = from_bytes(sample).best()
    if best is not None and best.encoding in _EASTERN and _is_western(sample, best.encoding):
        return "cp1252"
    # On a short text the statistics say nothing; Windows' Western encoding is by far the likeliest.
    return best.encoding if best is not None and len(sample) >= 64 else "cp1252"


def _is_western(sample: bytes, guess: str) -> bool:
    """Whether the guessed Central European encoding gives no Central European language: statistics mix the two up."""
    return detect(sample.decode(guess, "replace")) not in ("pl", "cs", "sk", "hu", "hr", "sl", "ro")


@hookimpl
def register_parsers() -> Iterable[type[Parser[Any]]]:
    """Plain text."""
    return [TextParser]
