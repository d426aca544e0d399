"""Build ``kamc/catalogue/*.json`` from a folder of extracted facts (``core.json``, ``modules.json`` and ``diff_5_6_3.json``).

    python tools/make_catalogue.py FACTS_DIR

The result is kamc's own data: names, arities, route masks, parameter types. Run it again when the facts change.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

OUT = Path(__file__).resolve().parent.parent / "kamc" / "catalogue"


def function_row(f: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"min": f.get("min_args", 0), "max": f.get("max_args", 0), "routes": f.get("routes", [])}
    for key in ("arity", "var_args", "const_args", "routes_by_arity"):
        if f.get(key):
            row[key] = f[key]
    kinds = f.get("param_kinds") or f.get("param_kinds_by_arity")
    if kinds:
        row["kinds"] = kinds
    return row


def name_of(item: Any) -> str:
    return str(item["name"]) if isinstance(item, dict) else str(item)


def module_row(m: dict[str, Any]) -> dict[str, Any]:
    pvs = {}
    for pv in m.get("pvs", []):
        if not isinstance(pv, dict) or "name" not in pv:
            continue
        pvs[pv["name"]] = {k: pv[k] for k in ("writable", "keys") if pv.get(k)}
    return {
        "functions": {f["name"]: function_row(f) for f in m.get("functions", []) if not f.get("api")},
        "params": {p["name"]: {"type": p["type"], "default": p.get("default"), **({"func": True} if p.get("func") else {})} for p in m.get("params", [])},
        "pvs": pvs,
        "rpc": sorted(name_of(r) for r in m.get("rpc", [])),
        "stats": sorted(name_of(s) for s in m.get("stats", [])),
        "event_routes": sorted(name_of(e) for e in m.get("event_routes", [])),
        "depends": m.get("depends_on_modules", []),
    }


#: core names that Kamailio 5.6 has not, for which there is no extracted list
NEWER_CORE = {
    "core_params": ["domain", "return_mode", "socket"],
    "transformations": ["num.", "s.byteat", "s.charat", "s.crc32", "s.escape.crlf", "s.intv", "s.keccak", "s.rmhdws", "s.rmhlws", "s.selectsw", "s.sha3",
                        "s.unescape.crlf", "uri.rmparam", "val."],
}
#: what is newer than 5.6 and not dated any closer
AFTER_5_6 = "5.7"
#: what is documented and in no published index yet
UNRELEASED = "6.2"
_VERSIONS = ("5.7", "6.0", "6.1", "6.2")


def first_version(entry: dict[str, Any], missing_in_5_6: bool, compared: bool) -> str | None:
    """The version that has a name first, where that is after 5.6."""
    since = str(entry.get("since", "")).removeprefix("<=")
    if since in _VERSIONS and (missing_in_5_6 or not compared):
        return since
    if not missing_in_5_6:
        return None
    return AFTER_5_6 if since or entry.get("undocumented") else UNRELEASED


def versions(facts: Path, rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """``since``: the version that has a module, function, parameter or transformation first (a class of transformations ends with a dot).
    ``only``: modules of one version alone. ``const_args``: with how many arguments a function of 5.6 wants only constants, where that
    differs."""
    diff = json.loads((facts / "diff_5_6_3.json").read_text())
    new_modules = set(diff["modules_only_here"])
    since: dict[str, dict[str, Any]] = {"modules": {}, "functions": {}, "params": {}}
    for module, row in sorted(rows.items()):
        differences = diff["modules"].get(module, {})
        for kind in ("functions", "params"):
            only_here = set(differences.get(f"{kind}_only_here", ()))
            dated = {e["name"]: v for e in row.get(kind, ()) if (v := first_version(e, module in new_modules or e["name"] in only_here, module in diff["modules"]))}
            if dated:
                since[kind][module] = dict(sorted(dated.items()))
        if module in new_modules:
            since["modules"][module] = min((v for kind in ("functions", "params") for v in since[kind].get(module, {}).values()), default=AFTER_5_6)
    for kind, names in NEWER_CORE.items():
        since[kind] = dict.fromkeys(names, AFTER_5_6)
    constant = {m: {name: [int(count) for count in there] for name, (_, there) in row["const_args"].items()}
                for m, row in sorted(diff["modules"].items()) if row.get("const_args")}  # fmt: skip
    return {"since": since, "only": {"5.6": sorted(diff["modules_only_there"])}, "const_args": {"5.6": constant}}


def main() -> int:
    facts = Path(sys.argv[1])
    core = json.loads((facts / "core.json").read_text())
    modules: dict[str, Any] = {}
    rows: dict[str, dict[str, Any]] = {}
    for line in (facts / "modules.json").read_text().splitlines():
        line = line.strip().rstrip(",")
        if line.startswith("{"):
            m = json.loads(line)
            rows[m["name"]] = m
            modules[m["name"]] = module_row(m)
    keep = {
        "params": {p["name"]: {"type": p["type"], "default": p.get("default"), "aliases": p.get("aliases", [])} for p in core["global_params"]},
        "keywords": core["keywords"],
        "pvs": {p["name"]: {k: p[k] for k in ("writable", "keys", "index") if p.get(k)} | {"from": p["from"]} for p in core["pvs"]},
        "pvs_of_modules": core["pvs_of_modules"],
        "transformations": {f"{t['class']}.{n['name']}": {"module": t["module"], "args": n.get("args", []), "min": n.get("min_args")}
                            for t in core["transformations"] for n in t["names"]},
        "cfg_groups": {g: [{k: v[k] for k in ("name", "type", "min", "max", "readonly") if k in v} for v in vs] for g, vs in core["cfg_groups"].items()},
        "event_routes": core["event_routes_all"],
        "rpc": [name_of(r) for r in core["rpc"]],
    }  # fmt: skip
    (OUT / "core.json").write_text(json.dumps(keep, indent=0, sort_keys=True, separators=(",", ":")) + "\n")
    lines = [f"{json.dumps(n)}:{json.dumps(modules[n], sort_keys=True, separators=(',', ':'))}" for n in sorted(modules)]
    (OUT / "modules.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    (OUT / "versions.json").write_text(json.dumps(versions(facts, rows), indent=0, sort_keys=True, separators=(",", ":")) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
