"""Module xhttp_prom: counters of the server and of the script for Prometheus, over HTTP.
https://www.kamailio.org/docs/modules/stable/modules/xhttp_prom.html

Values of labels are escaped as the exposition format wants (Kamailio writes them as they are).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from kamc.declare import ANY, Module, Routes, function, modparam, rpc
from kamc.errors import ConfigError
from kamc.runtime import http
from kamc.runtime.context import Ctx
from kamc.runtime.rpc.fault import RpcFault

_MOST_LABELS: Final = 3
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_NAME: Final = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_NUMBER: Final = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_PAGE: Final = "/metrics"
_TYPE: Final = "text/plain; version=0.0.4"
_WEB: Final = Routes.REQUEST | Routes.EVENT


def number_of(text: str) -> float:
    """The number that a text begins with, as C reads it; 0 without one."""
    match = _NUMBER.match(text)
    return float(match[0]) if match is not None else 0.0


class Series:
    """A metric with values of its labels: when it was used last, and its numbers. ``counts`` are of the buckets."""

    __slots__ = ("counts", "total", "used", "value")

    def __init__(self, buckets: int) -> None:
        self.used = 0.0
        self.value = 0
        self.total = 0.0
        self.counts = [0] * buckets


class Metric:
    """What a parameter declares. ``kind`` is counter, gauge or histogram; ``series`` goes by the values of the labels."""

    def __init__(self, kind: str, text: str) -> None:
        """Raises ValueError."""
        found = dict(part.strip().partition("=")[::2] for part in text.split(";") if part.strip())
        unknown = set(found) - {"name", "label", *(("buckets",) if kind == "histogram" else ())}
        if unknown or not _NAME.fullmatch(found.get("name", "")):
            raise ValueError(f"{text!r}: the form is name=NAME; label=NAME:NAME" + ("; buckets=1:2.5" if kind == "histogram" else ""))
        self.kind, self.name = kind, found["name"]
        self.labels = found["label"].split(":") if found.get("label") else []
        if len(self.labels) > _MOST_LABELS or not all(map(_NAME.fullmatch, self.labels)):
            raise ValueError(f"{text!r}: up to {_MOST_LABELS} labels, of letters, digits and _")
        self.buckets: tuple[float, ...] = _BUCKETS if kind == "histogram" else ()
        if found.get("buckets"):
            try:
                self.buckets = tuple(float(b) for b in found["buckets"].split(":"))
            except ValueError:
                raise ValueError(f"{text!r}: the buckets are numbers with : between them") from None
            if any(low >= high for low, high in zip(self.buckets, self.buckets[1:], strict=False)):
                raise ValueError(f"{text!r}: each bucket is larger than the one before")
        self.series: dict[tuple[str, ...], Series] = {}

    def lines(self, prefix: str, values: tuple[str, ...], series: Series, stamp: int) -> Iterator[str]:
        pairs = [f'{label}="{_escaped(value)}"' for label, value in zip(self.labels, values, strict=True)]

        def line(suffix: str, more: list[str], number: str) -> str:
            shown = ", ".join(pairs + more)
            return f"{prefix}{self.name}{suffix}{'{' + shown + '}' if shown else ''} {number} {stamp}\n"

        if self.kind == "counter":
            yield line("", [], str(series.value))
            return
        if self.kind == "gauge":
            yield line("", [], f"{series.total:f}")
            return
        for bound, count in zip(self.buckets, series.counts, strict=True):
            yield line("_bucket", [f'le="{bound:f}"'], str(count))
        yield line("_bucket", ['le="+Inf"'], str(series.value))
        yield line("_sum", [], f"{series.total:f}")
        yield line("_count", [], str(series.value))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class XhttpProm(Module):
    name = "xhttp_prom"
    depends = ("xhttp",)
    tuning_params = ("xhttp_prom_buf_size",)

    class Params:
        xhttp_prom_timeout: int = 60
        xhttp_prom_stats: str = ""
        xhttp_prom_beginning: str = "kamailio_"

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        self.metrics: dict[str, Metric] = {}

    def _declare(self, kind: str, text: str) -> None:
        metric = Metric(kind, text)
        if metric.name in self.metrics:
            raise ValueError(f"there is a metric {metric.name!r} already")
        self.metrics[metric.name] = metric

    @modparam("prom_counter")
    def add_counter(self, text: str) -> None:
        self._declare("counter", text)

    @modparam("prom_gauge")
    def add_gauge(self, text: str) -> None:
        self._declare("gauge", text)

    @modparam("prom_histogram")
    def add_histogram(self, text: str) -> None:
        self._declare("histogram", text)

    def mod_init(self) -> None:
        if self.p.xhttp_prom_timeout < 0:
            raise ConfigError("xhttp_prom: xhttp_prom_timeout is at least 0 minutes")

    def activate(self, previous: Any) -> None:
        """Metrics that are declared as before keep their values."""
        super().activate(previous)
        for name, metric in self.metrics.items():
            before = previous.metrics.get(name) if previous is not None else None
            if before is not None and (before.kind, before.labels, before.buckets) == (metric.kind, metric.labels, metric.buckets):
                metric.series = before.series

    # -- values ----------------------------------------------------------------------------------------------------------

    def _series(self, kind: str, name: str, labels: tuple[str, ...]) -> Series | None:
        """Made when it is used for the first time; None for a metric that was not declared so."""
        metric = self.metrics.get(name)
        values = tuple(labels)
        while values and not values[-1]:
            values = values[:-1]
        if metric is None or metric.kind != kind or len(values) != len(metric.labels):
            self.rt.log.error("xhttp_prom: no %s %s with %d labels", kind, name, len(values))
            return None
        series = metric.series.get(values)
        if series is None:
            series = metric.series[values] = Series(len(metric.buckets))
        series.used = self.rt.now()
        return series

    def _apply(self, kind: str, name: str, labels: tuple[str, ...], change: Callable[[Series], None]) -> int:
        series = self._series(kind, name, labels)
        if series is None:
            return -1
        change(series)
        return 1

    @function(ANY)
    def prom_counter_inc(self, ctx: Ctx, name: str, number: int, l0: str = "", l1: str = "", l2: str = "") -> int:
        return self.everywhere(self._count, name, number, (l0, l1, l2))

    def _count(self, name: str, number: int, labels: tuple[str, ...]) -> int:
        if number < 0:
            self.rt.log.error("prom_counter_inc: a counter never falls")
            return -1

        def add(series: Series) -> None:
            series.value += number

        return self._apply("counter", name, labels, add)

    @function(ANY)
    def prom_counter_reset(self, ctx: Ctx, name: str, l0: str = "", l1: str = "", l2: str = "") -> int:
        return self.everywhere(self._reset, "counter", name, (l0, l1, l2))

    @function(ANY)
    def prom_gauge_reset(self, ctx: Ctx, name: str, l0: str = "", l1: str = "", l2: str = "") -> int:
        return self.everywhere(self._reset, "gauge", name, (l0, l1, l2))

    def _reset(self, kind: str, name: str, labels: tuple[str, ...]) -> int:
        def zero(series: Series) -> None:
            series.value, series.total = 0, 0.0

        return self._apply(kind, name, labels, zero)

    @function(ANY)
    def prom_gauge_set(self, ctx: Ctx, name: str, number: str, l0: str = "", l1: str = "", l2: str = "") -> int:
        return self.everywhere(self._gauge, name, number, (l0, l1, l2), False)

    @function(ANY)
    def prom_gauge_inc(self, ctx: Ctx, name: str, number: str, l0: str = "", l1: str = "", l2: str = "") -> int:
        return self.everywhere(self._gauge, name, number, (l0, l1, l2), True)

    def _gauge(self, name: str, number: str, labels: tuple[str, ...], add: bool) -> int:
        def put(series: Series) -> None:
            series.total = number_of(number) + (series.total if add else 0.0)

        return self._apply("gauge", name, labels, put)

    @function(ANY)
    def prom_histogram_observe(self, ctx: Ctx, name: str, number: str, l0: str = "", l1: str = "", l2: str = "") -> int:
        return self.everywhere(self._observe, name, number, (l0, l1, l2))

    def _observe(self, name: str, number: str, labels: tuple[str, ...]) -> int:
        value = number_of(number)

        def count(series: Series) -> None:
            series.value += 1
            series.total += value
            for at, bound in enumerate(self.metrics[name].buckets):
                series.counts[at] += value <= bound

        return self._apply("histogram", name, labels, count)

    # -- page ------------------------------------------------------------------------------------------------------------

    def _own(self) -> str:
        """The metrics of the script. Those that nobody used for xhttp_prom_timeout minutes are forgotten."""
        stamp, prefix = int(self.rt.wall_time() * 1000), self.p.xhttp_prom_beginning
        old = self.rt.now() - self.p.xhttp_prom_timeout * 60
        lines = ["# User defined metrics\n"]
        for metric in self.metrics.values():
            if self.p.xhttp_prom_timeout:
                metric.series = {values: s for values, s in metric.series.items() if s.used > old}
            for values, series in metric.series.items():
                lines += metric.lines(prefix, values, series, stamp)
        return "".join(lines)

    def _server(self) -> str:
        """The statistics that xhttp_prom_stats asks for."""
        wanted, counters = self.p.xhttp_prom_stats, self.rt.counters
        if not wanted:
            return ""
        stamp, prefix = int(self.rt.wall_time() * 1000), self.p.xhttp_prom_beginning
        title = "whole internal statistics" if wanted == "all" else f"statistics for group: {wanted}" if wanted.endswith(":") else f"statistics for: {wanted}"
        lines = [f"\n# Kamailio {title}\n"]
        for group, name in sorted(counters.known):
            if wanted in ("all", f"{group}:", name):
                shown = f"{prefix}{group}_{name}".replace("-", "_")
                lines.append(f"{shown} {counters.get(group, name) or 0} {stamp}\n")
        return "".join(lines)

    @function(_WEB)
    def prom_check_uri(self, ctx: Ctx) -> int:
        """Whether the HTTP request asks for ``/metrics``."""
        return 1 if http.is_http(ctx) and ctx.msg.uri == _PAGE else -1

    @function(_WEB)
    def prom_dispatch(self, ctx: Ctx) -> int:
        """Answer the HTTP request with all metrics."""
        if not http.is_http(ctx):
            self.rt.log.error("prom_dispatch: not in an HTTP request")
            return -1
        try:
            http.answer(ctx, 200, "OK", f"Content-Type: {_TYPE}\r\n", self._own() + self._server())
        except OSError as err:
            self.rt.log.error("prom_dispatch: %s", err.strerror or err)
            return -1
        return 1

    # -- RPC -------------------------------------------------------------------------------------------------------------

    @staticmethod
    def _done(rc: int, failed: str) -> None:
        if rc < 0:
            raise RpcFault(500, failed)

    @staticmethod
    def _number(number: Any, kind: type[int] | type[float]) -> int | float:
        """Raises RpcFault for what is none."""
        try:
            if number is not None and math.isfinite(float(number)):
                return kind(str(number))
        except ValueError:
            pass
        raise RpcFault(400, "required number argument")

    @rpc("xhttp_prom.counter_inc", wrong="400 required counter identifier")
    def rpc_counter_inc(self, name: str, number: Any = None, *labels: str) -> None:
        """NAME NUMBER [LABEL ...]: add to a counter."""
        value = self._number(number, int)
        self._done(self.everywhere(self._count, name, value, labels), f"Failed to add {value} to counter: {name}")

    @rpc("xhttp_prom.counter_reset", wrong="400 required counter identifier")
    def rpc_counter_reset(self, name: str, *labels: str) -> None:
        """NAME [LABEL ...]: set a counter to 0."""
        self._done(self.everywhere(self._reset, "counter", name, labels), f"Failed to reset counter: {name}")

    @rpc("xhttp_prom.gauge_set", wrong="400 required gauge identifier")
    def rpc_gauge_set(self, name: str, number: Any = None, *labels: str) -> None:
        """NAME NUMBER [LABEL ...]: set a gauge."""
        value = self._number(number, float)
        self._done(self.everywhere(self._gauge, name, str(value), labels, False), f"Failed to assign {value:f} gauge: {name}")

    @rpc("xhttp_prom.gauge_inc", wrong="400 required gauge identifier")
    def rpc_gauge_inc(self, name: str, number: Any = None, *labels: str) -> None:
        """NAME NUMBER [LABEL ...]: add to a gauge."""
        value = self._number(number, float)
        self._done(self.everywhere(self._gauge, name, str(value), labels, True), f"Failed to add {value:f} to gauge: {name}")

    @rpc("xhttp_prom.gauge_reset", wrong="400 required gauge identifier")
    def rpc_gauge_reset(self, name: str, *labels: str) -> None:
        """NAME [LABEL ...]: set a gauge to 0."""
        self._done(self.everywhere(self._reset, "gauge", name, labels), f"Failed to reset gauge: {name}")

    @rpc("xhttp_prom.histogram_observe", wrong="400 required histogram identifier")
    def rpc_histogram_observe(self, name: str, number: Any = None, *labels: str) -> None:
        """NAME NUMBER [LABEL ...]: count a value into a histogram."""
        value = self._number(number, float)
        self._done(self.everywhere(self._observe, name, str(value), labels), f"Failed to observe {value:f} in histogram: {name}")

    @rpc("xhttp_prom.metric_list_print")
    def rpc_list(self) -> str:
        """The metrics of the script as the page has them."""
        return self._own()


module = XhttpProm
