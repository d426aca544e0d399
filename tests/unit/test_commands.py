"""The subcommands that read configurations: their output, formats and exit statuses."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from kamc.cli import main, make_parser
from kamc.formatter import layout
from tests.conftest import ROOT

CFG = """#!KAMAILIO
# a small one
#!define CODE "404"
debug=2
loadmodule "sl"
loadmodule "pv"
loadmodule "tm"
modparam("tm", "fr_timer", 5000)
listen=udp:127.0.0.1:5060
request_route {
    if ($rU == "a") {
        route(B);
    }
    t_on_failure("F");
    sl_send_reply(CODE, "Nobody");
}
route[B] {
    exit;
}
failure_route[F] {
    $var(x) = 1;
}
"""


@pytest.fixture
def cfg(tmp_path: Path) -> Path:
    path = tmp_path / "kamailio.cfg"
    path.write_text(CFG)
    return path


def changed(cfg: Path, *pairs: tuple[str, str], name: str = "new.cfg") -> Path:
    text = CFG
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path = cfg.with_name(name)
    path.write_text(text)
    return path


# -- check -------------------------------------------------------------------------------------------------------------------


def test_check_formats(cfg: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = changed(cfg, ("route(B)", "route(C)"))
    assert main(["check", str(bad), "--format", "line"]) == 1
    assert "error[K0401]: route[C] is not defined" in capsys.readouterr().err
    assert main(["check", str(bad), "--format", "json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [(d["code"], d["line"], d["column"]) for d in found] == [("K0401", 12, 15), ("K0403", 17, 1)]
    assert main(["check", str(bad), "--format", "sarif"]) == 1
    run = json.loads(capsys.readouterr().out)["runs"][0]
    assert [r["ruleId"] for r in run["results"]] == ["K0401", "K0403"]
    assert run["results"][0]["locations"][0]["physicalLocation"]["region"] == {"startLine": 12, "startColumn": 15, "endLine": 12, "endColumn": 16}
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["K0401", "K0403"]
    assert main(["check", str(bad), "--format", "github"]) == 1
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(f"::error file={bad},line=12,endLine=12,col=15,endColumn=16,title=K0401 unknown route::route[C] is not defined")


def test_warnings_fail_only_when_strict(cfg: Path) -> None:
    path = changed(cfg, ("        route(B);\n", "        exit;\n"))
    assert main(["check", str(path)]) == 0
    assert main(["check", str(path), "--strict"]) == 1


def test_what_only_kamc_lacks_does_not_fail_a_check(cfg: Path) -> None:
    path = changed(cfg, ('loadmodule "tm"', 'loadmodule "tm"\nloadmodule "imc"'))
    assert main(["check", str(path)]) == 0
    assert main(["build", str(path), "-o", str(cfg.parent / "out")]) == 1


def test_comments_silence_one_code_on_one_line(cfg: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = changed(cfg, ("        route(B);\n", "        exit;\n"), ("route[B] {", "route[B] { # kamc: ignore[K0403, K0999]"))
    assert main(["check", str(path), "--strict"]) == 0
    other = changed(cfg, ("        route(B);\n", "        exit;\n"), ("route[B] {", "route[B] { # kamc: ignore[K0401]"))
    assert main(["check", str(other), "--strict"]) == 1


# -- diff --------------------------------------------------------------------------------------------------------------------


def test_layout_comments_and_order_of_defines_make_no_difference(cfg: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = changed(cfg, ("# a small one\n", "#!define OTHER 1\n/* quite\nanother */\n"), ("    if (", "\tif ("), ('CODE, "Nobody"', '"404",\n  "Nobody"'))
    assert main(["diff", str(cfg), str(same)]) == 0
    assert capsys.readouterr().out == ""


def test_differences_of_code_and_settings(cfg: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = changed(cfg, ("Nobody", "Gone"), ("5000", "6000"), ("debug=2", "debug=3"), ("127.0.0.1:5060", "127.0.0.1:5080"), ("route[B]", "route[C]"), ("(B)", "(C)"))
    assert main(["diff", str(cfg), str(new)]) == 1
    text = capsys.readouterr().out
    for line in ("- core parameter debug = 2", "+ module parameter tm: fr_timer = 6000", "- listener udp:127.0.0.1:5060 = open", "+ listener udp:127.0.0.1:5080 = open",
                 "route[B] removed (kamailio.cfg:17:1)", "route[C] added (new.cfg:17:1)"):  # fmt: skip
        assert line in text.splitlines()
    assert "'Gone')  # new.cfg:15" in text
    assert main(["diff", str(cfg), str(new), "--format", "json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["same"] is False
    assert {(c["section"], c["name"]) for c in data["settings"]} >= {("core parameter", "debug"), ("module parameter", "tm: fr_timer")}
    page = cfg.parent / "diff.html"
    assert main(["diff", str(cfg), str(new), "--format", "html", "-o", str(page)]) == 1
    assert "route[C]" in page.read_text() and "&#39;Gone&#39;" in page.read_text()


def test_diff_sees_what_kamc_does_not_implement(cfg: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = ('loadmodule "tm"', 'loadmodule "tm"\nloadmodule "imc"\nmodparam("imc", "hash_size", 3)')
    call = ('    t_on_failure("F");', '    imc_manager();\n    t_on_failure("F");')
    old = changed(cfg, head, call, name="old.cfg")
    assert main(["diff", str(old), str(changed(cfg, head, call))]) == 0
    assert main(["diff", str(old), str(changed(cfg, (head[0], head[1].replace("3", "4")), call))]) == 1
    assert "imc: hash_size = 4" in capsys.readouterr().out
    assert main(["diff", str(old), str(changed(cfg, head, (call[0], call[1].replace("imc_manager()", "imc_room_active($rU)"))))]) == 1
    assert "imc_room_active" in capsys.readouterr().out


def test_diff_of_builds_and_revisions(cfg: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (cfg.parent / "inc.cfg").write_text("route[B] {\n    exit;\n}\n")
    cfg.write_text(CFG.replace("route[B] {\n    exit;\n}\n", 'include_file "inc.cfg"\n'))
    out = cfg.parent / "out"
    assert main(["build", str(cfg), "-o", str(out)]) == 0
    assert main(["diff", str(out), str(cfg)]) == 0
    git = ["git", "-C", str(cfg.parent), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    for args in (["init", "-q"], ["add", "kamailio.cfg", "inc.cfg"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *args], check=True)
    monkeypatch.chdir(cfg.parent)
    assert main(["diff", "git:HEAD:kamailio.cfg", "kamailio.cfg"]) == 0
    (cfg.parent / "inc.cfg").write_text("route[B] {\n    drop;\n}\n")
    capsys.readouterr()
    assert main(["diff", "git:HEAD:kamailio.cfg", "kamailio.cfg"]) == 1
    assert "+     raise Drop  # inc.cfg:2" in capsys.readouterr().out
    assert main(["diff", "git:nope:kamailio.cfg", "kamailio.cfg"]) == 1
    assert main(["diff", "git:HEAD", "kamailio.cfg"]) == 1
    assert main(["diff", str(cfg.parent), "kamailio.cfg"]) == 1
    assert "is no kamc build" in capsys.readouterr().err


def test_a_side_that_does_not_compile_says_why(cfg: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(cfg), str(changed(cfg, ("route(B)", "route(C)")))]) == 1
    assert "K0401" in capsys.readouterr().err


def test_build_check_notices_a_stale_folder(cfg: Path) -> None:
    out = str(cfg.parent / "out")
    assert main(["build", str(cfg), "-o", out]) == 0
    assert main(["build", str(cfg), "-o", out, "--check"]) == 0
    cfg.write_text(CFG.replace("Nobody", "Gone"))
    assert main(["build", str(cfg), "-o", out, "--check"]) == 1


# -- fmt ---------------------------------------------------------------------------------------------------------------------


def test_layout() -> None:
    folder = ROOT / "tests" / "cases" / "fmt"
    assert layout((folder / "untidy.cfg").read_text()) == (folder / "tidy.cfg").read_text()


def test_layout_keeps_meaning_and_has_a_fixed_point() -> None:
    for path in (ROOT / "samples").glob("*.cfg"):
        once = layout(path.read_text("latin-1"))
        assert layout(once) == once


def test_fmt_writes_in_place_or_says_what_would_change(cfg: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg.chmod(0o640)
    assert main(["fmt", "--check", str(cfg)]) == 1
    assert cfg.read_text() == CFG
    assert main(["fmt", str(cfg)]) == 0
    assert cfg.read_text() != CFG and cfg.stat().st_mode & 0o777 == 0o640
    assert main(["fmt", "--check", str(cfg)]) == 0
    cfg.write_text('debug="')
    assert main(["fmt", str(cfg)]) == 1
    assert main(["fmt", str(cfg.with_name("none.cfg"))]) == 1
    assert cfg.read_text() == 'debug="'


# -- graph and explain -------------------------------------------------------------------------------------------------------


def test_graphs(cfg: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", str(cfg)]) == 0
    dot = capsys.readouterr().out
    assert '  "request_route" -> "route[B]";' in dot and '  "request_route" -> "failure_route[F]" [label="t_on_failure", style=dashed];' in dot
    assert main(["graph", str(cfg), "--format", "mermaid"]) == 0
    assert "n0 -. t_on_failure .-> n2" in capsys.readouterr().out
    out = cfg.parent / "g.svg"
    assert main(["graph", str(cfg), "--format", "svg", "-o", str(out)]) == 0
    import xml.etree.ElementTree as ET

    boxes = ET.parse(out).getroot().findall("{http://www.w3.org/2000/svg}rect")
    assert [b.get("class") for b in boxes] == ["entry", "block", "block"]


def test_graph_shows_missing_and_computed_targets(cfg: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", str(changed(cfg, ("route(B)", "route(C);\n route($rU)")))]) == 1
    dot = capsys.readouterr().out
    assert '"route[C]" [style=dashed, color=red];' in dot and '"route(...)" [style=dotted];' in dot


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "k0401"]) == 0
    assert capsys.readouterr().out.startswith("# K0401: unknown route")
    assert main(["explain"]) == 0
    assert "K0101  syntax error" in capsys.readouterr().out
    assert main(["explain", "K9999"]) == 2


# -- CI samples --------------------------------------------------------------------------------------------------------------


def commands(node: Any) -> list[str]:
    """All ``kamc`` command lines in a CI file."""
    if isinstance(node, str):
        text = node.replace("${{ github.base_ref }}", "main")
        return [match.group().strip() for match in re.finditer(r"(?<![\w.])kamc \w[^|>;\n]*", text)]
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [command for child in children for command in commands(child)]


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_commands_of_the_ci_samples_are_real(name: str) -> None:
    found = commands(yaml.safe_load((ROOT / "samples" / "ci" / name).read_text()))
    assert len(found) >= 5
    for command in found:
        make_parser().parse_args(shlex.split(command)[1:])


def test_answers_as_tables() -> None:
    from kamc.tables import lines_of

    assert lines_of([{"pid": 7, "what": "main"}, {"pid": 12, "what": "worker\nx", "more": None}]) == [
        "pid  what      more", "---  --------  ----", "  7  main", " 12  worker x  -"]  # fmt: skip
    assert lines_of({"now": "today", "uptime": 5}) == ["now     today", "uptime  5"]
    assert lines_of({"a": {"b": 1}, "list": [], "c": [{"Contact": {"x": 1}}, {"Contact": {"x": 2}}]}) == ["a", "  b  1", "list", "  -", "c", "  x", "  -", "  1", "  2"]
    assert lines_of(["one", "two"]) == ["one", "two"] and lines_of([{"a": [1]}, {"a": [2]}]) == ["a", "  1", "", "a", "  2"]
    assert lines_of("x") == ["x"] and lines_of([{"v": "y" * 100}])[2].endswith("…")


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert "diff" in text and ("_kamc_rpc" in text or shell == "tcsh")
