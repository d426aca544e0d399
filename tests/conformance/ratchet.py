"""Runs the recorded suites of ``../shared`` and holds the results against ``known_failures/*.txt``.

A failure that is not listed fails the run, and so does a listed case that passes: the lists only shrink. A listed line is
``case-id  reason``. Cases that differ from the list are run again before they count, up to six times, since some are races of their own:
``tm_fork/cancel_reason`` of the wire suite fails when the ACK that nobody waits for arrives before the case ends.

    python tests/conformance/ratchet.py [--suite corpus|language|wire|torture] [--write]

``KAMC_WORKERS=3`` in the environment runs all of it with so many workers, without the cases that read in one request what another one has left in
its process (Kamailio with several children fails them, too). ``--write`` prints the lists as they would have to be, keeping the reasons that are there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SHARED = ROOT.parent / "shared"
KNOWN = HERE / "known_failures"
RERUNS = 6
WORKERS = int(os.environ.get("KAMC_WORKERS", "1"))
KAMC = f"{Path(sys.executable).parent / 'kamc'} run {{cfg}} --workers {WORKERS}"


def run(command: list[str], cwd: Path, timeout: int) -> str:
    """A suite's output; a non-zero status only means failures."""
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=timeout, env=env)
    return done.stdout


def language(only: Iterable[str] = ()) -> tuple[set[str], set[str]]:
    """(failed, all) of the language suite."""
    selected = [part for case in only for part in ("--only", case)]
    runner = "run_cases.py" if WORKERS == 1 else str(HERE / "settled.py")
    out = run([sys.executable, runner, "-v", "--flavor", "head", "--jobs", "2", "--server-cmd", f"{KAMC} -w {{dir}} -Y {{dir}} -P {{dir}}/k.pid", *selected],
              SHARED / "language", 1500)  # fmt: skip
    failed = set(re.findall(r"^FAIL (\S+)", out, re.M))
    passed = set(re.findall(r"^ok +(\S+)", out, re.M))
    return failed, failed | passed


def wire(only: Iterable[str] = ()) -> tuple[set[str], set[str]]:
    """(failed, all) of the wire suite."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        selected = [part for case in only for part in ("-k", case)]
        run([sys.executable, "run_scenarios.py", "--brief", "-j", "4", "--start-timeout", "4", "--json", str(report), "--server-cmd",
             f"{KAMC} -w {{rundir}} -Y {{rundir}} -P {{rundir}}/pid", *selected], SHARED / "wire", 1500)  # fmt: skip
        cases = json.loads(report.read_text())["cases"]
    failed = {f"{c['folder']}/{c['case']}" for c in cases if c["status"] not in ("pass", "skip")}
    return failed, {f"{c['folder']}/{c['case']}" for c in cases}


def torture(only: Iterable[str] = ()) -> tuple[set[str], set[str]]:
    """(failed, all) of the torture suite at level ``group``; ids are profile/case, and profile/start for a server that does not come up."""
    profiles = json.loads((SHARED / "torture" / "cfgs" / "profiles.json").read_text())
    failed: set[str] = set()
    everything: set[str] = set()
    for profile in sorted({case.partition("/")[0] for case in only} or profiles):
        ids = [case.partition("/")[2] for case in only if case.startswith(profile + "/")]
        whole = not ids or any(i in ("start", "profile") for i in ids)
        selected = [] if whole else ["--only", "^(" + "|".join(map(re.escape, ids)) + ")$"]
        out = run([sys.executable, "run_torture.py", "--level", "group", "-v", "--start-wait", "3", "--max-restarts", "3", "--profiles", profile,
                   "--server-cmd", f"{KAMC} -w {{rundir}} -Y {{rundir}} -P {{pidfile}}", *selected], SHARED / "torture", 900)  # fmt: skip
        bad = set(re.findall(r"^FAIL ([a-z]/\S+?):", out, re.M)) | {f"{p}/profile" for p in re.findall(r"^FAIL ([a-z]):", out, re.M)}
        if "passed, " not in out:
            bad.add(f"{profile}/start")
        failed |= bad
        everything |= bad | set(re.findall(r"^ok +([a-z]/\S+?):", out, re.M))
    return failed, everything


def corpus(only: Iterable[str] = ()) -> tuple[set[str], set[str]]:
    """(failed, all) of the corpus: see :mod:`corpus`."""
    import corpus as suite

    return suite.run(only)


#: what asks for one process: a variable or a number that lives in it is read by the next request
ONE_PROCESS = {"language": {"pvm-mi", "var-persist-request", "var-persist-string", "var-vn-persist"}}

SUITES: dict[str, Callable[..., tuple[set[str], set[str]]]] = {"corpus": corpus, "language": language, "wire": wire, "torture": torture}


def read_known(suite: str) -> dict[str, str]:
    path = KNOWN / f"{suite}.txt"
    out = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.strip() and not line.startswith("#"):
            case, _, reason = line.partition(" ")
            out[case] = reason.strip()
    return out


def check(suite: str) -> bool:
    """Run a suite against its list. True when they agree."""
    known = read_known(suite)
    missing = [case for case, reason in known.items() if not reason]
    failed, everything = SUITES[suite]()
    left_out = ONE_PROCESS.get(suite, set()) if WORKERS > 1 else set()
    failed, everything = failed - left_out, everything - left_out
    for _ in range(RERUNS):
        suspects = (failed - set(known)) | ((set(known) & everything) - failed)
        if not suspects:
            break
        again, seen = SUITES[suite](sorted(suspects))
        # a case counts as changed only when every run says so
        failed = {c for c in failed if c in known or c not in seen or c in again} | {c for c in suspects & again if c in known}
    new = sorted(failed - set(known))
    passing = sorted((set(known) & everything) - failed)
    gone = sorted(set(known) - everything)
    print(f"{suite}: {len(everything) - len(failed)} passed, {len(failed)} failed, {len(known)} listed"
          + (f", with {WORKERS} workers, without what asks for one process: {', '.join(sorted(left_out))}" if left_out else ""))  # fmt: skip
    findings = {"failed and not listed": new, "listed and passed (take it off the list)": passing, "listed and not there": gone, "without a reason": missing}
    for label, cases in findings.items():
        for case in cases:
            print(f"  {case}: {label}")
    return not (new or passing or gone or missing)


def write(suite: str) -> None:
    known = read_known(suite)
    failed, _ = SUITES[suite]()
    for case in sorted(failed):
        print(f"{case} {known.get(case, '')}".rstrip())


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--suite", choices=sorted(SUITES), action="append")
    options.add_argument("--write", action="store_true")
    args = options.parse_args()
    if not SHARED.is_dir():
        print("no ../shared beside the checkout: nothing to compare with")
        return 0
    suites = args.suite or list(SUITES)
    if args.write:
        for suite in suites:
            write(suite)
        return 0
    return 0 if all(list(map(check, suites))) else 1


if __name__ == "__main__":
    raise SystemExit(main())
