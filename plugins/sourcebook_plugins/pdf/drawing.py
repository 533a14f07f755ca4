"""A page as a PNG with boxes marked, without an imaging library.

PNG: W3C Recommendation (third edition), 8-bit RGB, no interlace.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sourcebook.documents import Box

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    """uint8[height, width, 3], red, green, blue."""

_SCALE = 2.0  # 144 dots an inch
_MOST_PIXELS = 2400  # along the longer side; a poster is drawn smaller
_MARK = (255, 224, 64)
_PAD = 1.5  # points around a box, so that the mark does not touch the ink


def draw(page: Any, boxes: Sequence[Box]) -> bytes:
    """A pypdfium2 page as PNG bytes; `boxes` in points from its top left corner are marked in yellow."""
    import numpy as np

    width, height = page.get_size()
    scale = min(_SCALE, _MOST_PIXELS / max(width, height, 1.0))
    bitmap = page.render(scale=scale, rev_byteorder=True, prefer_bgrx=False)
    try:
        pixels = np.array(bitmap.to_numpy()[:, :, :3], dtype=np.uint8)
    finally:
        bitmap.close()
    for box in boxes:
        _mark(pixels, box, scale)
    return png(pixels)


def _mark(pixels: Pixels, box: Box, scale: float) -> None:
    """Colour a box as a felt pen does: what is dark stays dark."""
    import numpy as np

    height, width = pixels.shape[:2]
    left, top = (max(int((value - _PAD) * scale), 0) for value in box[:2])
    right, bottom = (int((value + _PAD) * scale) + 1 for value in box[2:])
    area = pixels[top : min(bottom, height), left : min(right, width)]
    np.minimum(area, np.array(_MARK, dtype=np.uint8), out=area)


def png(pixels: Pixels) -> bytes:
    """RGB pixels as a PNG file."""
    import numpy as np

    height, width = pixels.shape[:2]
    # Each row begins with its filter type: 0, none.
    rows = np.zeros((height, 1 + 3 * width), dtype=np.uint8)
    rows[:, 1:] = pixels.reshape(height, 3 * width)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_part(kind, data) for kind, data in parts)


def _part(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
