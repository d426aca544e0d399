"""A short, repeatable piece of :mod:`tests.fuzz`; and inputs that once were, or could be, too much."""

from __future__ import annotations

from pathlib import Path

import pytest

from kamc.compile import compile_cfg
from tests.fuzz import HEAD, check, fuzz


def test_no_input_gives_a_traceback(tmp_path: Path) -> None:
    fuzz(tmp_path, 300)


def _codes(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "k.cfg"
    path.write_text(text, "latin-1")
    return [d.code for d in compile_cfg(str(path)).diagnostics]


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        (HEAD + "request_route {\n" + 'if ($rU == "a") {\n' * 5000 + "exit;\n" + "}\n" * 5000 + "}\n", ["K0114"]),
        (HEAD + "request_route {\n$var(x) = " + "(" * 5000 + "1" + ")" * 5000 + ";\n}\n", ["K0114"]),
        (HEAD + "request_route {\n" + 'if ($rU == "a") { exit; }\n' + 'else if ($rU == "b") { exit; }\n' * 10000 + "}\n", ["K0114"]),
        (HEAD + 'request_route {\nxlog("' + "a" * 10_000_000 + '");\n}\n', []),
        (HEAD + 'request_route {\nxlog("' + "a" * 1_000_000 + ";\n}\n", ["K0102"]),
        ("#!KAMAILIO\n#!define A A\nlisten=A\n", ["K0204"]),
        ("#!KAMAILIO\n" + "".join(f"#!define A{i} A{i + 1} A{i + 1}\n" for i in range(40)) + "listen=A0\n", ["K0204"]),
        ("#!KAMAILIO\n" + "#!ifdef A\n" * 20000 + "#!endif\n" * 20000 + "request_route { exit; }\n", []),
    ],
    ids=["blocks", "brackets", "else-if", "long-line", "unclosed-long-line", "define-itself", "define-bomb", "conditionals"],
)
def test_too_much_of_something_is_a_finding(tmp_path: Path, text: str, codes: list[str]) -> None:
    assert _codes(tmp_path, text) == codes


@pytest.mark.parametrize("data", [bytes(range(256)) * 200, b"\x7fELF" + b"\0" * 5000, b"\0" * 5000, b"\xff\xfe" + "request_route".encode("utf-16-le")])
def test_binary_files_are_refused(tmp_path: Path, data: bytes) -> None:
    found = _codes(tmp_path, data.decode("latin-1"))
    assert set(found) <= {"K0101", "K0102", "K0103", "K0504"} and found


def test_what_is_just_within_the_bounds_compiles(tmp_path: Path) -> None:
    for body in (
        'if ($rU == "a") {\n' * 190 + "exit;\n" + "}\n" * 190,
        "while (1) {\n" * 60 + "break;\n" + "}\n" * 60,
        'if ($rU == "a") { exit; }\n' + 'else if ($rU == "b") { exit; }\n' * 1500,
        "$var(x) = $rU" + ' + "b"' * 1500 + ";\n",
        "if (" + " || ".join(['$rU == "a"'] * 1500) + ") exit;\n",
    ):
        check(HEAD + "request_route {\n" + body + "}\n", tmp_path)
