"""Modules regex, sipjson, log_custom and phonenum; what Kamailio 5.6.3 printed stands in the expectations."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest

from kamc.errors import ConfigError
from kamc.runtime.log import Log
from stdlib_modules.regex.pcre import Pcre, PcreError

GROUPS = """# comment
[0]
^Twinkle/1
^X-Lite

[1]
^\\d{3}$
	indented is left out
(?i)^abc
"""


def printed(b) -> list[str]:
    return [line.partition("OUT: ")[2] for line in b.log.lines if "OUT: " in line]


# -- regex -------------------------------------------------------------------------------------------------------------------


def regex(bench, tmp_path: Path, body: str, more: str = ""):
    (tmp_path / "groups").write_text(GROUPS)
    b = bench(f'loadmodule "regex.so"\nmodparam("regex", "file", "{tmp_path}/groups")\n{more}request_route {{\n{body}\n}}\n')
    b.request("OPTIONS")
    return b


@pytest.mark.parametrize(("text", "pattern", "rc"), [
    ("hello", "^h.l+o$", 1), ("HELLO", "(?i)hel", 1), ("HELLO", "hel", -1), ("x", "(", -4), ("", "x", -1), ("foobar", "foo(?=bar)", 1), ("a\nb", "^b", -1),
    ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "^(a+)+$", -1),
])  # fmt: skip
def test_one_expression(bench, tmp_path: Path, text: str, pattern: str, rc: int) -> None:
    b = bench('loadmodule "regex.so"\nrequest_route { pcre_match("$hdr(X-Text)", "$hdr(X-Pattern)"); xlog("OUT: $rc\\n"); }\n')
    b.request("OPTIONS", "sip:a@h", "X-Text: " + text.replace("\n", " "), f"X-Pattern: {pattern}")
    assert printed(b) == [str(rc)]


def test_groups_of_a_file(bench, tmp_path: Path) -> None:
    pairs = [("Twinkle/1.2", 0, 1), ("Twinkle/1.2", 1, -1), ("123", 1, 1), ("1234", 1, -1), ("ABCD", 1, 1), ("ABCD", 2, -4), ("ABCD", "x", -1), ("indented", 1, -1)]
    b = regex(bench, tmp_path, "\n".join(f'pcre_match_group("{text}", "{group}"); xlog("OUT: $rc\\n");' for text, group, _ in pairs))
    assert printed(b) == [str(rc) for *_, rc in pairs]
    (tmp_path / "groups").write_text("[7]\n^new\n")
    b.worker.rpc.call("regex.reload", [])
    b.request("OPTIONS")
    assert printed(b)[len(pairs):] == ["-1", "-4", "-4", "-4", "-4", "-4", "-1", "-4"]


def test_flags_of_all_expressions(bench, tmp_path: Path) -> None:
    body = 'pcre_match("ab\\nCD", "^c d$$"); xlog("OUT: $rc\\n"); pcre_match("ab\\nCD", "b.c"); xlog("OUT: $rc\\n");'
    more = "".join(f'modparam("regex", "pcre_{name}", 1)\n' for name in ("caseless", "multiline", "dotall", "extended"))
    assert printed(regex(bench, tmp_path, body, more)) == ["1", "1"]
    assert printed(regex(bench, tmp_path, body)) == ["-1", "-1"]


@pytest.mark.parametrize("text", ["[0]\n(\n", "[0]\n", "[0]\na\n[1]\nb\n[2]\nc\n", "[0]\n" + "x" * 200 + "\n"])
def test_files_that_are_refused(bench, tmp_path: Path, text: str) -> None:
    (tmp_path / "bad").write_text(text)
    head = 'loadmodule "regex.so"\nmodparam("regex", "max_groups", 2)\nmodparam("regex", "group_max_size", 100)\n'
    with pytest.raises(ConfigError, match="regex: "):
        bench(head + f'modparam("regex", "file", "{tmp_path}/bad")\nrequest_route {{ exit; }}\n')
    with pytest.raises(ConfigError, match="cannot read"):
        bench(head + f'modparam("regex", "file", "{tmp_path}/none")\nrequest_route {{ exit; }}\n')


def test_a_search_without_end_is_given_up() -> None:
    with pytest.raises(PcreError, match="given up"):
        Pcre("^(([a-z])+.)+[A-Z]([a-z])+$").matches("a" * 4000)


# -- sipjson -----------------------------------------------------------------------------------------------------------------


def test_a_message_as_json(bench) -> None:
    body = "".join(f'sj_serialize("{letters}", "$var(j)"); xlog("OUT: $rc $var(j)\\n"); ' for letters in ("0", "Bct"))
    b = bench(f'loadmodule "sipjson.so"\nrequest_route {{ {body}}}\n')
    b.request("MESSAGE", "sip:js@h", 'User-Agent: a"b\\c\tx', body="hi")
    short, long = (json.loads(line.removeprefix("1 ")) for line in printed(b))
    assert list(short) == ["mt", "rm", "pr", "si", "sp", "Ri", "Rp", "ru", "rU", "rd", "rp", "rs", "rr", "fU", "fd", "ua", "ci"]
    assert short | {"si": 0, "sp": 0, "Ri": 0, "Rp": 0} == {
        "mt": 2, "rm": "MESSAGE", "pr": "udp", "si": 0, "sp": 0, "Ri": 0, "Rp": 0, "ru": "sip:js@h", "rU": "js", "rd": "h", "rp": 0, "rs": 0, "rr": "", "fU": "alice",
        "fd": "a.test", "ua": 'a"b\\c\tx', "ci": "c1",
    }  # fmt: skip
    assert long == {**short, "rb": "hi", "cs": "1", "tU": "bob", "td": "b.test"}


# -- log_custom --------------------------------------------------------------------------------------------------------------


def test_lines_over_udp(bench, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(2)
        head = f'log_engine_type="udp"\nlog_engine_data="127.0.0.1:{sock.getsockname()[1]}"\n'
        b = bench('loadmodule "log_custom.so"\n' + head + 'request_route { log_udp("plain $rm"); xlog("L_ERR", "hello\\n"); }\n')
        b.request("OPTIONS")
        assert sock.recv(999) == b"plain OPTIONS"
        log = Log(0)
        log.divert = b.log.divert
        assert log.divert is not None
        log.error("in %s", "words")
        assert re.fullmatch(rb"\(\d+\) ERROR: <core> \[.*\]: \w+\(\): in words\n", sock.recv(999))
        log.write(-1, "said\n", "<script>")
        assert re.fullmatch(rb"\(\d+\) ERROR: <script>: said\n", sock.recv(999))
        assert capfd.readouterr().err == ""
        on_stderr = bench('loadmodule "log_custom.so"\nlog_stderror=yes\n' + head + "request_route { exit; }\n")
        assert on_stderr.log.divert is None


@pytest.mark.parametrize("data", ["", "nowhere", "127.0.0.1:x", "127.0.0.1:70000", ":5"])
def test_addresses_that_are_refused(bench, data: str) -> None:
    with pytest.raises(ConfigError, match="log_engine_data"):
        bench(f'loadmodule "log_custom.so"\nlog_engine_type="udp"\nlog_engine_data="{data}"\nrequest_route {{ exit; }}\n')


# -- phonenum ----------------------------------------------------------------------------------------------------------------


def phone(bench, call: str, more: str = "") -> str:
    keys = ("number", "valid", "normalized", "natnum", "cctel", "ltype", "ndesc", "ccname", "error")
    shown = " ".join(f"$phn(n=>{key});" for key in keys)
    b = bench(f'loadmodule "phonenum.so"\n{more}request_route {{ xlog("OUT: $phn(n=>valid)\\n"); {call}; xlog("OUT: $rc {shown}\\n"); }}\n')
    b.request("OPTIONS", "sip:+4930123456@h")
    before, after = printed(b)
    assert before == "<null>"
    return after


def test_numbers(bench) -> None:
    pytest.importorskip("phonenumbers")
    assert phone(bench, 'phonenum_match("$rU", "n")').startswith("1 +4930123456; 1; +4930123456; 30123456; 49; fixed-line; Berlin; DE; ")
    assert phone(bench, 'phonenum_match_cn("030 123456", "de", "n")').startswith("1 030 123456; 1; +4930123456; 30123456; 49; fixed-line; Berlin; DE;")
    assert phone(bench, 'phonenum_match_cn("0151 23456789", "DE", "n")').split("; ")[5] == "mobile"
    for bad in ('phonenum_match("030123456", "n")', 'phonenum_match_cn("12", "DE", "n")', 'phonenum_match("no number", "n")', 'phonenum_match_cn("123", "XX", "n")'):
        assert phone(bench, bad).partition(" ")[2].partition("; ")[2] in (
            f"0; <null>; <null>; 0; <null>; <null>; <null>; {error};" for error in ("Parsing number failed", "Invalid number"))
    assert phone(bench, 'phonenum_match_cn("110", "DE", "n")').endswith("; <null>; Invalid number;")
    assert phone(bench, 'phonenum_match("+18005551234", "n")').endswith("; toll-free; United States; US; <null>;")
    assert phone(bench, 'phonenum_match("+447000000000", "n")').endswith("; personal-number; United Kingdom; GB; <null>;")
    assert phone(bench, 'phonenum_match_cn("110", "DE", "n")', 'modparam("phonenum", "shortcode", 1)\n').split("; ")[5] == "shortcode"
