"""A built program on disk: readable ``src/``, ``bytecode/``, ``map.json`` and ``manifest.json``; written beside and renamed into place."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kamc import BUILD_FORMAT, __version__
from kamc.analysis.depth import compiling
from kamc.codegen import GeneratedProgram
from kamc.codegen.assemble import assemble_module, assemble_text, to_pyc
from kamc.codegen.render import render_constants, render_module, render_params


def build_files(program: GeneratedProgram, defines: Mapping[str, str | None], options: Mapping[str, Any], *, readable: bool = True) -> dict[str, bytes]:
    """All files of the artefact by relative name. The same input gives the same bytes.

    Without ``readable`` the source and the line map are left out: ``kamc run`` needs the bytecode alone.
    """
    with compiling():
        return _build_files(program, defines, options, readable)


def _build_files(program: GeneratedProgram, defines: Mapping[str, str | None], options: Mapping[str, Any], readable: bool) -> dict[str, bytes]:
    key = hashlib.sha256(json.dumps([program.sources, sorted(defines.items(), key=str), __version__], sort_keys=True).encode()).digest()
    files: dict[str, bytes] = {}
    line_map: dict[str, Any] = {}
    for kind in sorted(program.modules):
        module = program.modules[kind]
        stem = f"{kind}_route" if kind != "route" else "route"
        files[f"bytecode/{stem}.pyc"] = to_pyc(assemble_module(program, module), key)
        if readable:
            rendered = render_module(program, module)
            files[f"src/{stem}.py"] = rendered.text.encode("latin-1", "backslashreplace")
            line_map[f"{stem}.py"] = [list(row) for row in rendered.line_map]
    for stem, text in (("constants", render_constants(program)), ("params", render_params(program))):
        if readable:
            files[f"src/{stem}.py"] = text.encode("latin-1", "backslashreplace")
        files[f"bytecode/{stem}.pyc"] = to_pyc(assemble_text(text, f"{stem}.py"), key)
    if readable:
        files["map.json"] = _json(line_map)
    files["manifest.json"] = _json({
        "format": BUILD_FORMAT, "kamc": __version__, "python": f"{sys.version_info.major}.{sys.version_info.minor}", "entry": program.entry,
        "sources": program.sources, "defines": dict(sorted(defines.items())), "options": dict(sorted(options.items())),
        "modules": program.params["modules"], "routes": [r[:3] for r in program.params["routes"]], "helpers": program.helpers,
        "digest": hashlib.sha256(b"".join(files[f] for f in sorted(files))).hexdigest(),
    })  # fmt: skip
    return files


def _json(data: Any) -> bytes:
    return (json.dumps(data, indent=1, sort_keys=True) + "\n").encode()


def write_files(target: Path, files: Mapping[str, bytes]) -> None:
    """Write everything beside the target and rename, so that a reader sees the old build or the new one."""
    fresh = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    for name, data in files.items():
        path = fresh / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if target.exists():
        if not (target / "manifest.json").exists() and any(target.iterdir()):
            shutil.rmtree(fresh)
            raise FileExistsError(f"{target} exists and is no kamc build")
        old = target.with_name(f".{target.name}.{os.getpid()}.old")
        target.rename(old)
        fresh.rename(target)
        shutil.rmtree(old)
    else:
        fresh.rename(target)


def is_current(target: Path, files: Mapping[str, bytes]) -> bool:
    """Whether the folder holds exactly this build."""
    present = {str(p.relative_to(target)) for p in target.rglob("*") if p.is_file()} if target.is_dir() else set()
    return present == set(files) and all((target / name).read_bytes() == data for name, data in files.items())
