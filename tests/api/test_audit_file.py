"""The audit log's file, written by several processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sourcebook_api.audit_file import AuditFile

_WRITER = """
import sys
from pathlib import Path
from sourcebook_api.audit_file import AuditFile
file = AuditFile(Path(sys.argv[1]), size=2000, files=1000)
sys.stdin.readline()
for n in range(500):
    file.append(b"%s %03d " % (sys.argv[2].encode(), n) + b"." * 40)
"""


def test_no_line_of_any_process_is_lost_or_torn_where_files_are_turned_over(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(path), name], stdin=subprocess.PIPE) for name in "abc"
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"\n")
        writer.stdin.close()
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    files = [p for p in tmp_path.iterdir() if not p.name.endswith(".lock")]
    lines = [line.rpartition(" ")[0] for file in files for line in file.read_text().splitlines()]
    assert sorted(lines) == [f"{name} {n:03}" for name in "abc" for n in range(500)]
    assert max(file.stat().st_size for file in files) <= 2000


def test_the_oldest_file_goes_and_only_the_owner_may_read(tmp_path: Path) -> None:
    file = AuditFile(tmp_path / "audit.log", size=10, files=3)
    for line in (b"one....", b"two....", b"three..", b"four..."):
        file.append(line)
    kept = {p.name: p.read_text().strip() for p in tmp_path.iterdir() if not p.name.endswith(".lock")}
    assert kept == {"audit.log": "four...", "audit.log.1": "three..", "audit.log.2": "two...."}
    assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o600}
