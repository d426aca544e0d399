"""Configurations that nobody would write: over bytes, over tokens, and by damaging ones that are fine. ``kamc check`` has findings for
them, and never a traceback.

    python -m tests.fuzz [--minutes 10] [--seed N]

runs for a while with new inputs; ``tests/unit/test_fuzz.py`` runs a short and repeatable piece of it.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from kamc.codegen.package import build_files
from kamc.compile import compile_cfg
from kamc.errors import ConfigError
from kamc.formatter import layout
from kamc.report import FORMATS, render
from kamc.tokens import KEYWORDS, OPERATORS

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = [path.read_text("latin-1") for path in sorted([*(ROOT / "samples").glob("*.cfg"), *(ROOT / "tests" / "cases" / "diagnostics").glob("*.cfg")])]
HEAD = '#!KAMAILIO\nloadmodule "tm"\nloadmodule "sl"\nloadmodule "pv"\nloadmodule "xlog"\nloadmodule "textops"\n'
#: pieces of text that mean something somewhere
WORDS = (
    *(word for words in KEYWORDS.values() for word in words), *OPERATORS, "1", "0x1f", "07", "-1", "2147483648", "99999999999", '"a"', '""', "'x'", '"$rU"', '"$"',
    '"\\x00"', '"', "'", "$rU", "$var(x)", "$(var(x){s.len})", "$(rU{s.substr,0,})", "$hdr(", "$(", "$", "$?", "@to.tag", "@", "%a", "$avp(s:x)", "$xavp(a[0]=>b)",
    "sl_send_reply", "t_relay", "xlog", "is_method", "nosuch", "route[A]", "request_route {", "route(A);", "event_route[tm:local-request]", "}", "{", ";\n",
    "#!ifdef A\n", "#!ifndef B\n", "#!else\n", "#!endif\n", "#!define A B\n", "#!define B A\n", '#!subst "/a/b/"\n',
    "#!ifexp 1 + (\n", "#!defexp C 1 / 0\n", "#!", "\n",
    "# kamc: ignore[K0101]\n", "/*", "*/", "//", "\\\n", 'modparam("tm", "fr_timer", 5)\n', 'loadmodule "sl"\n', "listen=udp:127.0.0.1:5060\n",
    'include_file "/dev/null"\n',
    "flags A:1, B;", "switch", "case 1:", "case /\"(\":", "default:", "1.2.3.4", "1.2.3.4/33", "::1", "[::1]", "a.b = 1", "a.b = \"x\" desc \"y\"",
)  # fmt: skip


def texts() -> st.SearchStrategy[str]:
    """Bytes; tokens inside of a block and outside; a good configuration with damage."""
    raw = st.binary(max_size=300).map(lambda b: b.decode("latin-1"))
    tokens = st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join)
    inside = tokens.map(lambda t: f"{HEAD}request_route {{\n{t}\n}}\n")
    outside = tokens.map(lambda t: f"{HEAD}{t}\nrequest_route {{ exit; }}\n")
    damaged = st.tuples(st.sampled_from(SAMPLES), st.integers(0, 1 << 30), st.integers(1, 8)).map(lambda x: damage(*x))
    return st.one_of(raw, inside, outside, damaged)


def damage(text: str, key: int, times: int) -> str:
    """Cut, doubled, moved and replaced pieces."""
    dice = random.Random(key)
    for _ in range(times):
        a, b = sorted(dice.randrange(len(text) + 1) for _ in range(2))
        b = min(b, a + dice.choice((1, 3, 20, 200)))
        match dice.randrange(5):
            case 0:
                text = text[:a] + text[b:]
            case 1:
                text = text[:a] + text[a:b] * 2 + text[b:]
            case 2:
                text = text[:a] + dice.choice(WORDS) + text[b:]
            case 3:
                text = text[:a] + chr(dice.randrange(256)) + text[a + 1 :]
            case _:
                text = text[:a]
        text = text or ";"
    return text


def check(text: str, folder: Path, *, seconds: float = 30.0) -> None:
    """Everything that ``kamc check``, ``build`` and ``fmt`` do with a text. Only ConfigError may come out, and only of the formatter."""
    path = folder / "fuzz.cfg"
    path.write_text(text, "latin-1", newline="")
    begin = time.monotonic()
    compiled = compile_cfg(str(path), allow_missing=True, env={})
    for fmt in FORMATS:
        render(compiled.diagnostics, fmt)
    if compiled.program is not None:
        build_files(compiled.program, {}, {})
    else:
        assert any(d.severity.value == "error" for d in compiled.diagnostics), "refused without an error"
    try:
        once = layout(text)
    except ConfigError:
        pass
    else:
        assert layout(once) == once, "the layout has no fixed point"
    assert time.monotonic() - begin < seconds, "too slow"


def fuzz(folder: Path, examples: int, number: int | None = None) -> None:
    """Some examples; with a number they are new ones, without the same ones each time."""
    run: Callable[[], None] = given(text=texts())(lambda text: check(text, folder))
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run = settings(max_examples=examples, deadline=None, database=None, derandomize=number is None, suppress_health_check=slow)(run)
    (run if number is None else seed(number)(run))()


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--seed", type=int, default=None)
    args = options.parse_args()
    import tempfile

    number = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 32)
    end, rounds = time.monotonic() + args.minutes * 60, 0
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            fuzz(Path(folder), 500, number + rounds)
            rounds += 1
    print(f"{rounds * 500} examples from seed {number} on, no traceback", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
