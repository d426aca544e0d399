"""The differences of two snapshots. Places in files are shown and never compared."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kamc.diff.snapshot import CodeLine, Snapshot


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a code difference. ``op`` is one of ``= - + ~`` (same, only old, only new, changed) or ``.`` (lines left out)."""

    op: str
    old: CodeLine | None
    new: CodeLine | None


@dataclass(frozen=True, slots=True)
class Change:
    """A setting that differs: ``old`` or ``new`` is None where it was added or removed."""

    section: str
    name: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class CodeChange:
    """A route block that differs. ``kind``: added, removed or changed."""

    label: str
    kind: str
    old_place: str
    new_place: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    old: str
    new: str
    settings: tuple[Change, ...] = ()
    code: tuple[CodeChange, ...] = field(default=())

    @property
    def same(self) -> bool:
        return not self.settings and not self.code


def compare(old: Snapshot, new: Snapshot) -> Difference:
    settings = [*_settings(old.params, new.params)]
    code = []
    for label in sorted({*old.functions, *new.functions}):
        before, after = old.functions.get(label, ()), new.functions.get(label, ())
        if [line.text for line in before] == [line.text for line in after]:
            continue
        kind = "added" if not before else "removed" if not after else "changed"
        code.append(CodeChange(label, kind, old.places.get(label, ""), new.places.get(label, ""), tuple(_rows(before, after))))
    return Difference(old.name, new.name, tuple(settings), tuple(code))


def _settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[Change]:
    tables = (_table(old), _table(new))
    for section in tables[0]:
        before, after = tables[0][section], tables[1][section]
        for name in sorted({*before, *after}):
            if before.get(name) != after.get(name):
                yield Change(section, name, before.get(name), after.get(name))
    for section, key in (("module", "MODULES"), ("load path", "LOADPATH")):
        if old[key] != new[key] and sorted(old[key]) == sorted(new[key]):
            yield Change(section, "order", " ".join(old[key]), " ".join(new[key]))


def _table(params: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Section → name → value as text. What may be set several times is one value with all of them in order."""
    modparams: dict[str, list[str]] = {}
    for module, name, value, _ in (*params["MODPARAMS"], *params.get("UNUSED_MODPARAMS", ())):
        modparams.setdefault(f"{module}: {name}", []).append(repr(value))
    custom = {f"{group}{'' if instance is None else f'[{instance}]'}.{name}": repr(value) for group, name, instance, value, _ in params["CUSTOM"]}
    listen = [_socket(item) for item in params["LISTEN"]]
    return {
        "core parameter": {name: repr(value) for name, value in params["CORE"]},
        "module": dict.fromkeys(params["MODULES"], "loaded"),
        "load path": dict.fromkeys(params["LOADPATH"], "searched"),
        "module parameter": {name: ", ".join(values) for name, values in modparams.items()},
        "custom variable": custom,
        "listener": dict.fromkeys(listen, "open"),
        "alias": dict.fromkeys((_address(alias) for alias in params["ALIAS"]), "known"),
        "flag": {name: str(number) for name, number in dict(params["FLAGS"]).items()},
        "define": {name: str(value) for name, value in params["DEFINES"]},
    }


def _address(socket: Any) -> str:
    proto, hosts, port, *last = socket
    return (f"{proto}:" if proto else "") + ",".join(hosts) + (f":{port}" if port else "") + (f"-{last[0]}" if last else "")


def _socket(item: Mapping[str, Any]) -> str:
    text = " ".join(_address(s) for s in item["sockets"])
    if item.get("advertise"):
        text += f" advertise {_address(item['advertise'])}"
    if item.get("name"):
        text += f' name "{item["name"]}"'
    return text + (" virtual" if item.get("virtual") else "")


def _rows(old: tuple[CodeLine, ...], new: tuple[CodeLine, ...], context: int = 3) -> Iterable[Row]:
    matcher = difflib.SequenceMatcher(None, [line.text for line in old], [line.text for line in new], autojunk=False)
    for index, group in enumerate(matcher.get_grouped_opcodes(context)):
        if index:
            yield Row(".", None, None)
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                yield from (Row("=", a, b) for a, b in zip(old[i1:i2], new[j1:j2], strict=True))
                continue
            paired = min(i2 - i1, j2 - j1)
            for k in range(paired):
                yield Row("~", old[i1 + k], new[j1 + k])
            yield from (Row("-", line, None) for line in old[i1 + paired : i2])
            yield from (Row("+", None, line) for line in new[j1 + paired : j2])
