"""Headers of what is given away as a file: a name that is safe on every disk, and nothing that a browser would run."""

from __future__ import annotations

import re
from urllib.parse import quote

from sourcebook.hidden import without_hidden

_LONGEST = 120  # characters of a name, its ending aside

INERT = "default-src 'none'; sandbox; frame-ancestors 'none'"
"""Whatever the file is, a browser that shows it all the same may run nothing in it."""


def attachment(name: str) -> dict[str, str]:
    """The headers with which `name` is saved and not shown."""
    plain = re.sub(r'[^\w .()-]|["\\]', "_", name, flags=re.ASCII)
    return {
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Security-Policy": INERT,
    }


def file_name(title: str, ending: str) -> str:
    """A title as the name of a file: no path, no hidden characters, nothing that a shell or a table takes for more."""
    line = " ".join(re.sub(r'[\\/:*?"<>|\t\n]+', " ", without_hidden(title)).split())
    name = line[:_LONGEST].strip(" .=+-@~$")
    return f"{name or 'export'}.{ending}"
