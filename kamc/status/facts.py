"""What a running server says of itself, put together for the page and for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from kamc.errors import ConfigError
from kamc.runtime.measure import BUCKETS

#: asks a command; raises ConfigError
Ask = Callable[[str, list[Any]], Any]
_MOST_ROWS: Final = 200


def _asked(ask: Ask, command: str, *params: Any) -> Any:
    """None where the configuration does not load the module of a command."""
    try:
        return ask(command, list(params))
    except ConfigError:
        return None


def routes_of(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks of all workers together, the busiest first."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        one = found.setdefault(row["route"], {"route": row["route"], "calls": 0, "seconds": 0.0, "longest": 0.0, "buckets": [0] * (len(BUCKETS) + 1)})
        one["calls"] += row["calls"]
        one["seconds"] += float(row["seconds"])
        one["longest"] = max(one["longest"], float(row["longest"]))
        one["buckets"] = [a + b for a, b in zip(one["buckets"], row["buckets"], strict=True)]
    return sorted(found.values(), key=lambda r: -r["calls"])


def _contacts(dump: Any) -> list[dict[str, Any]]:
    out = []
    for domain in (dump or {}).get("Domains", ()):
        for aor in domain["Domain"]["AoRs"]:
            for contact in aor["Info"].get("Contacts", ()):
                c = contact["Contact"]
                out.append({"aor": aor["Info"]["AoR"], "contact": c["Address"], "expires": c["Expires"], "agent": c.get("User-Agent", "")})
    return out


def facts(ask: Ask, status: dict[str, Any]) -> dict[str, Any]:
    """Everything that the page shows."""
    dialogs = _asked(ask, "dlg.list") or []
    contacts = _contacts(_asked(ask, "ul.dump"))
    return {
        "version": _asked(ask, "core.version"), "uptime": (_asked(ask, "core.uptime") or {}).get("uptime", 0), "pid": status["pid"], "workers": status["workers"],
        "sockets": status["sockets"], "generation": status["generation"], "reload": status["reload"], "reloads": status["reloads"][-20:],
        "generations": _asked(ask, "kamc.generations") or [], "transactions": _asked(ask, "tm.stats") or {},
        "routes": routes_of(_asked(ask, "kamc.routes") or []), "errors": sorted(_asked(ask, "kamc.errors") or [], key=lambda e: -e["time"])[:50],
        "calls": [{"call_id": d["call-id"], "from": d["from_uri"], "to": d["to_uri"], "state": d["state"], "duration": d["duration"]} for d in dialogs[:_MOST_ROWS]],
        "calls_in_all": len(dialogs), "contacts": contacts[:_MOST_ROWS], "contacts_in_all": len(contacts), "statistics": _asked(ask, "kamc.statistics") or {},
    }  # fmt: skip


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def metrics(found: dict[str, Any]) -> str:
    """The same for Prometheus, text format 0.0.4."""
    lines: list[str] = []

    def family(name: str, kind: str, text: str, rows: Iterable[tuple[str, Any]]) -> None:
        lines.extend((f"# HELP kamc_{name} {text}", f"# TYPE kamc_{name} {kind}"))
        lines.extend(f"kamc_{name}{labels} {value}" for labels, value in rows)

    family("uptime_seconds", "gauge", "Seconds since the start.", [("", found["uptime"])])
    family("workers", "gauge", "Processes that serve.", [("", len(found["workers"]))])
    family("generation", "gauge", "Number of the running generation.", [("", found["generation"])])
    family("generations", "gauge", "Generations that something still runs on.", [("", len(found["generations"]))])
    family("calls", "gauge", "Dialogs.", [("", found["calls_in_all"])])
    family("contacts", "gauge", "Registered contacts.", [("", found["contacts_in_all"])])
    transactions = {k: v for k, v in found["transactions"].items() if k in ("current", "waiting")}
    family("transactions", "gauge", "Transactions by state.", [(f'{{state="{k}"}}', v) for k, v in transactions.items()])
    replies = [(f'{{class="{n}xx"}}', found["statistics"].get(f"core.rcv_replies_{n}xx", 0)) for n in range(1, 7)]
    family("replies_received_total", "counter", "Replies by class.", replies)
    family("errors_total", "counter", "Exceptions in routes.", [("", found["statistics"].get("kamc.route_errors", 0))])
    family("routes_waiting", "gauge", "Routes that are set aside.", [("", found["statistics"].get("kamc.waiting_routes", 0))])
    histogram: list[tuple[str, Any]] = []
    for row in found["routes"]:
        label, sofar = _escaped(row["route"]), 0
        for bound, count in zip((*BUCKETS, "+Inf"), row["buckets"], strict=True):
            sofar += count
            histogram.append((f'_bucket{{route="{label}",le="{bound}"}}', sofar))
        histogram += [(f'_sum{{route="{label}"}}', row["seconds"]), (f'_count{{route="{label}"}}', row["calls"])]
    family("route_seconds", "histogram", "Time that a block takes, with what it calls and waits for.", histogram)
    return "\n".join(lines) + "\n"
