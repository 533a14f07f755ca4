"""The checked-in table of what becomes of each hostile file, and its comparison."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

_TABLE = Path(__file__).with_name("outcomes.toml")
_HEAD = """# What becomes of each hostile file: "ready" or the code of its problem. What varies with the machine is
# joined by "|". When a parser changed: SOURCEBOOK_RECORD=1 python -m pytest tests/hostile, and look at the diff.
"""


def compare(section: str, outcomes: Mapping[str, str]) -> None:
    """Assert that the table says the same; with SOURCEBOOK_RECORD, write what is so now."""
    table: dict[str, dict[str, str]] = tomllib.loads(_TABLE.read_text()) if _TABLE.exists() else {}
    if os.environ.get("SOURCEBOOK_RECORD"):
        before = table.get(section, {})
        kept = {n: before[n] if o in before.get(n, "").split("|") else o for n, o in outcomes.items()}
        table[section] = dict(sorted(kept.items()))
        _write(table)
        return
    wanted = table.get(section, {})
    assert set(outcomes) == set(wanted)
    wrong = {name: (o, wanted[name]) for name, o in outcomes.items() if o not in wanted[name].split("|")}
    assert wrong == {}


def _write(table: Mapping[str, Mapping[str, str]]) -> None:
    lines = [_HEAD]
    for section, rows in sorted(table.items()):
        lines += [f"[{section}]", *(f'"{name}" = "{outcome}"' for name, outcome in rows.items()), ""]
    _TABLE.write_text("\n".join(lines))
