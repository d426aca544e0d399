"""Write what ``kamc check`` and ``kamailio -c`` say now into the cases of ``tests/cases/diagnostics``, and the table of ``docs/checker.md``.

    python -m tests.cases.mark [--kamailio] [NAME ...]

With ``--kamailio`` the real binary is asked, too. Read the difference before committing: this writes what *is*.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from kamc.analysis.suppress import without_ignored
from kamc.compile import compile_cfg
from tests.cases import FOLDER, MARK, ORACLE, STARTS, all_cases, mark_of, table

DOCUMENT = FOLDER.parents[2] / "docs" / "checker.md"
_ROWS = re.compile(r"(?<=\|---\|---\|---\|---\|---\|\n).*?(?=\n\n|\Z)", re.S)


def kamailio_says(path: Path) -> str:
    """The verdict of the real ``kamailio -c``: ok, or its first complaint."""
    try:
        done = subprocess.run(["kamailio", "-c", "-f", str(path), "-Y", "/tmp"], capture_output=True, text=True, errors="replace", timeout=5)
    except subprocess.TimeoutExpired:
        return "hangs"
    if done.returncode < 0:
        return f"dies of signal {-done.returncode}"
    text = done.stdout + done.stderr
    if done.returncode == 0:
        return "config file ok"
    found = re.search(r"line (\d+), (?:from )?column [^:]*: (.*)", text)
    named = [m for m in re.finditer(r"parse error in config file [^,]*, (?:from )?line (\d+)[^:]*: (.*)", text) if m.group(2).strip()]
    best = named[0] if named else found
    if best is not None:
        return f"line {best.group(1)}: {best.group(2).strip() or 'parse error'}"
    other = re.search(r"(?:ERROR|CRITICAL): <core> \[[^\]]*\]: \w+\(\): (.*)", text) or re.search(r"ERROR: (.*)", text)
    return other.group(1).strip() if other else "refused, without a reason"


def kamailio_starts(path: Path) -> str:
    """Whether the real server comes up with it on loopback: yes or no."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["kamailio", "-f", str(path), "-DD", "-E", "-w", folder, "-Y", folder, "-P", f"{folder}/pid", "-l", "udp:127.0.0.1:5999"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            process.wait(1.5)
        except subprocess.TimeoutExpired:
            up = Path(folder, "pid").exists()
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return "yes" if up else "no"
        return "no"


def main() -> int:
    names = [a for a in sys.argv[1:] if not a.startswith("-")]
    for path in sorted(FOLDER.glob("*.cfg")):
        if names and path.stem not in names:
            continue
        lines = path.read_text("latin-1").split("\n")
        oracle = next((x for x in lines[1:3] if x.startswith(ORACLE)), None)
        kept = [x for x in lines if not MARK.match(x) and not x.startswith((ORACLE, STARTS))]
        # the place of the second line is kept free, so that the lines do not move afterwards
        starts = next((x for x in lines[1:4] if x.startswith(STARTS)), None)
        bare = [kept[0], oracle or ORACLE + "?", starts or STARTS + "?", *kept[1:]]
        path.write_text("\n".join(bare), "latin-1")
        marks: dict[int, list[str]] = {}
        for d in without_ignored(compile_cfg(str(path), allow_missing=True).diagnostics):
            line, comment = mark_of(d)
            marks.setdefault(line, []).append(comment)
        out = list(marks.get(0, ()))
        for number, text in enumerate(bare, 1):
            out += [text, *marks.get(number, ())]
        path.write_text("\n".join(out), "latin-1")
        if "--kamailio" in sys.argv:
            at = next(i for i, x in enumerate(out) if x.startswith(ORACLE))
            out[at] = ORACLE + kamailio_says(path)
            out[at + 1] = STARTS + kamailio_starts(path)
            path.write_text("\n".join(out), "latin-1")
    document = DOCUMENT.read_text()
    DOCUMENT.write_text(_ROWS.sub(lambda _: table(all_cases()), document))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
