"""Build the two demo documents: a harbour's handbook (PDF) and the standing orders of its watch (DOCX).

    python examples/build_demo_documents.py api/sourcebook_api/demo

The harbour of Tolvane, its people and all its numbers are invented. The same libraries write the same bytes again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from demo_handbook import handbook
from demo_orders import orders


def build(folder: Path) -> list[Path]:
    """Write both into `folder`, and say where."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"tolvane-harbour-handbook.pdf": handbook(), "standing-orders-of-the-watch.docx": orders()}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in files]


if __name__ == "__main__":
    for path in build(Path(sys.argv[1] if len(sys.argv) > 1 else "api/sourcebook_api/demo")):
        print(path, path.stat().st_size)
