"""Unpacks a compressed answer in pieces of bounded size: 64 KiB of a bomb would be 64 MiB at once."""

from __future__ import annotations

import zlib

from sourcebook.errors import UpstreamError

PIECE = 256 * 1024


class Inflater:
    """gzip or zlib: feed it what came, then take pieces until one is empty. Raises `UpstreamError`."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._state = zlib.decompressobj(wbits=47)  # either header
        self._waiting = b""

    def feed(self, chunk: bytes) -> None:
        """More of the compressed body. What follows its end is ignored."""
        self._waiting += chunk

    def piece(self) -> bytes:
        """At most `PIECE` bytes; empty where more of the body is needed."""
        if not self._waiting or self._state.eof:
            return b""
        try:
            piece = self._state.decompress(self._waiting, PIECE)
        except zlib.error as error:
            raise UpstreamError(
                f"{self._where} sent a damaged compressed body.", code="upstream_protocol_error"
            ) from error
        self._waiting = self._state.unconsumed_tail
        return piece

    def end(self) -> None:
        """The body is over. Raises code `upstream_cut` where it is not whole."""
        if not self._state.eof:
            raise UpstreamError(
                f"{self._where} closed the connection inside its answer.", code="upstream_cut", transient=True
            )
