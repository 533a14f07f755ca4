"""ZIP archives: nothing is read here, every member becomes a source of its own."""

from __future__ import annotations

import posixpath
import stat
import zipfile
from collections.abc import Iterable
from typing import Any

from pydantic import Field

from sourcebook import ComponentSettings, DocumentWriter, Parser, ParserFile, hookimpl
from sourcebook.errors import Encrypted, LimitExceeded, Malformed, NoText
from sourcebook_plugins.packages import DAMAGE, check_entries

_AES = 99  # the method under which WinZip's AES hides the real one
_CLUTTER = ("__macosx", ".ds_store", "thumbs.db", "desktop.ini")  # what systems put into archives beside the files


class ZipSettings(ComponentSettings):
    """Files that an archive may hold, and bytes that it may unpack to: together and per file."""

    max_members: int = Field(default=1000, ge=1)
    max_unpacked: int = Field(default=512 * 1024 * 1024, ge=1)
    max_member: int = Field(default=128 * 1024 * 1024, ge=1)


class ZipParser(Parser[ZipSettings]):
    """Hands out the files of an archive under their names in it.

    Folders, links, hidden clutter and damaged files are left out, the latter with a warning. A password opens what
    ZIP's own cipher protects. Raises `Encrypted` without the right one and for AES, `Malformed`, `LimitExceeded` by the
    sizes that the archive declares (no more is unpacked than that), and `NoText` for an archive without files.
    """

    name = "zip"
    Settings = ZipSettings
    media_types = ("application/zip", "application/x-zip-compressed")
    extensions = (".zip",)
    preload = ("zipfile",)

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        """See the class."""
        with file.open() as stream:
            try:
                archive = zipfile.ZipFile(stream)
            except DAMAGE as error:
                raise Malformed("This is not a ZIP archive, or it is damaged.") from error
            with archive:
                entries = [entry for entry in archive.infolist() if _is_file(entry)]
                self._check(entries)
                count = sum(self._hand_out(archive, entry, file.password, out) for entry in entries)
        if not count:
            raise NoText("The archive holds no files.")

    def _check(self, entries: list[zipfile.ZipInfo]) -> None:
        if len(entries) > self.settings.max_members:
            count = f"The archive holds {len(entries):,} files."
            raise LimitExceeded(count, code="too_many_members", limit=self.settings.max_members)
        check_entries(entries, self.settings.max_unpacked, self.settings.max_member)

    def _hand_out(
        self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, password: str | None, out: DocumentWriter
    ) -> bool:
        protected = entry.flag_bits & 1
        if protected and entry.compress_type == _AES:
            raise Encrypted(
                "The archive is protected by AES, which is not read here.",
                remedy="Unpack it and upload its files, or pack them anew without a password.",
            )
        if protected and not password:
            raise Encrypted("The archive is protected by a password.", remedy="Give the password with the file.")
        data = None
        try:
            data = archive.read(entry, pwd=password.encode() if password else None)
        except DAMAGE as error:  # one wrong password in 256 is only seen by what it unpacks to
            if protected:
                raise Encrypted("The password is wrong.", remedy="Give the password with the file.") from error
        if data is None:
            out.warn("member_damaged", f"{entry.filename} is damaged and was left out.")
            return False
        if data:
            out.member(_name(entry.filename), data)
        return bool(data)


def _is_file(entry: zipfile.ZipInfo) -> bool:
    parts = entry.filename.replace("\\", "/").lower().split("/")
    if entry.is_dir() or any(part in _CLUTTER for part in parts) or parts[-1].startswith("._"):
        return False
    mode = entry.external_attr >> 16
    return not mode or stat.S_IFMT(mode) in (0, stat.S_IFREG)  # no links, no devices


def _name(name: str) -> str:
    """A member's path without what would lead out of the archive: it is only a name here, and is shown to people."""
    return posixpath.normpath(posixpath.join("/", name.replace("\\", "/"))).lstrip("/") or "member"


@hookimpl
def register_parsers() -> Iterable[type[Parser[Any]]]:
    """ZIP archives."""
    return [ZipParser]
