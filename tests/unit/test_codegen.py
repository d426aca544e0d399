"""Generated code: readable, deterministic, with cfg positions."""

from __future__ import annotations

import marshal
import subprocess
import sys
from pathlib import Path
from types import CodeType
from typing import Any

from kamc.codegen.package import build_files
from kamc.codegen.render import render_module
from tests.conftest import ROOT

HEAD = '#!KAMAILIO\nloadmodule "sl.so"\nloadmodule "pv.so"\nloadmodule "xlog.so"\nloadmodule "textops.so"\n'


def source_of(compiled: Any, kind: str = "request") -> str:
    assert compiled.ok, compiled.diagnostics
    return render_module(compiled.program, compiled.program.modules[kind]).text


def body_of(compiled: Any, kind: str = "request") -> list[str]:
    lines = source_of(compiled, kind).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("def "))
    return [line[4:] for line in lines[start + 1 :]]


def test_if_and_calls_read_like_the_cfg(compile_text: Any) -> None:
    routes = 'request_route {\n if (is_method("INVITE|BYE") && $rU == "bob") {\n sl_send_reply("200", "OK");\n exit;\n }\n route(X);\n}\n'
    compiled = compile_text(HEAD + routes + "route[X] { $var(a) = 1; }\n")
    assert body_of(compiled) == [
        "if textops.is_method(ctx, 'INVITE|BYE') > 0 and pv_rU(ctx) == 'bob':",
        "    sl.sl_send_reply(ctx, 200, 'OK')",
        "    raise Exit",
        "return ctx.route(route_X)",
    ]
    assert body_of(compiled, "route") == ["V['a'] = 1", "return 1"]


def test_while_has_a_limit(compile_text: Any) -> None:
    compiled = compile_text(HEAD + "request_route {\n while ($var(i) < 3) { $var(i) = $var(i) + 1; }\n}\n")
    text = "\n".join(body_of(compiled))
    assert "for _ in range(MAX_WHILE_LOOPS):" in text
    assert "ctx.loop_limit()" in text


def test_expressions_that_can_fail_are_guarded(compile_text: Any) -> None:
    compiled = compile_text(HEAD + "request_route {\n $var(x) = $rU * 2;\n}\n")
    assert body_of(compiled)[:4] == ["try:", "    V['x'] = mul(pv_rU(ctx), 2)", "except EvalError as error:", "    ctx.failed(error)"]


def test_constants_are_folded(compile_text: Any) -> None:
    compiled = compile_text(HEAD + "request_route {\n $var(x) = 1 + 2 * 3;\n}\n")
    assert body_of(compiled)[0] == "V['x'] = 7"


def test_switch_with_fallthrough(compile_text: Any) -> None:
    compiled = compile_text(HEAD + "request_route {\n switch ($var(x)) { case 1: $var(y) = 1; case 2: $var(y) = 2; break; default: exit; }\n}\n")
    assert "for _ in range(1):" in "\n".join(body_of(compiled))


def find_function(code: CodeType, name: str) -> CodeType:
    return next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == name)


def test_bytecode_has_cfg_positions(compile_text: Any, tmp_path: Path) -> None:
    (tmp_path / "inc.cfg").write_text('\nroute[INC] {\n    xlog("x\\n");\n}\n')
    compiled = compile_text(HEAD + 'include_file "inc.cfg"\nrequest_route {\n\n    route(INC);\n}\n')
    files = build_files(compiled.program, {}, {})
    main = find_function(marshal.loads(files["bytecode/request_route.pyc"][16:]), "request_route")
    inc = find_function(marshal.loads(files["bytecode/route.pyc"][16:]), "route_INC")
    assert (main.co_filename, inc.co_filename) == ("kamailio.cfg", "inc.cfg")
    lines = {(line, column) for line, _, column, _ in main.co_positions() if line}
    assert any(line == 9 and column == 4 for line, column in lines)
    assert any(line == 3 for line, _, _, _ in inc.co_positions())


def test_builds_are_identical_across_hash_seeds_and_folders(tmp_path: Path) -> None:
    cfg = ROOT / "samples" / "kamailio.cfg"
    results = []
    for number, (seed, cwd) in enumerate((("0", ROOT), ("1", tmp_path), ("12345", ROOT / "samples"))):
        out = tmp_path / f"out{number}"
        subprocess.run([sys.executable, "-m", "kamc", "build", str(cfg), "-o", str(out)], check=True, cwd=cwd, capture_output=True,
                       env={"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)})  # fmt: skip
        results.append({str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()})
    assert results[0] == results[1] == results[2]
    assert {"manifest.json", "map.json", "src/request_route.py", "bytecode/request_route.pyc"} <= set(results[0])


def test_readable_source_is_what_runs(compile_text: Any) -> None:
    """render_module compares what it wrote with the tree and raises when they differ: run it over a large sample."""
    compiled = compile_text((ROOT / "samples" / "kamailio.cfg").read_text())
    for kind in compiled.program.modules:
        assert "def " in source_of(compiled, kind)


def test_names_are_mangled(compile_text: Any) -> None:
    compiled = compile_text(HEAD + 'request_route { route("A-B c"); }\nroute["A-B c"] { exit; }\nevent_route[core:worker-one-init] { exit; }\n')
    assert "def route_A_2d_B_20_c(ctx):" in source_of(compiled, "route")
    assert "def event_route_core_3a_worker_2d_one_2d_init(ctx):" in source_of(compiled, "event")


def test_return_mode_keeps_what_a_route_returned(compile_text: Any) -> None:
    compiled = compile_text("#!KAMAILIO\nreturn_mode=1\nrequest_route {\n if (route(X)) exit;\n if (route(X) == 5) exit;\n}\nroute[X] { return 5; }\n")
    assert [line for line in body_of(compiled) if line.strip().startswith("if")] == ["if ctx.route(route_X) != 0:", "if ctx.route(route_X) == 5:"]


def test_a_loop_of_5_6_goes_on_below_zero(compile_text: Any) -> None:
    text = HEAD + "request_route { $var(i) = -2; while ($var(i)) { $var(i) = $var(i) + 1; } }\n"
    assert any(" != 0" in line or "nonzero(" in line for line in body_of(compile_text(text, compat="5.6")))
    assert not any(" != 0" in line or "nonzero(" in line for line in body_of(compile_text(text)))
