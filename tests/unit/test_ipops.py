"""Module ipops where the recorded programs do not reach: lookups of names."""

from __future__ import annotations

import stdlib_modules.ipops as ipops


def test_names(bench, monkeypatch) -> None:
    def resolve(host: str) -> list[str]:
        if host != "two.test":
            raise OSError(-2, "Name or service not known")
        return ["192.0.2.1", "2001:db8::1"]

    monkeypatch.setattr(ipops, "resolve", resolve)
    b = bench('loadmodule "ipops.so"\nrequest_route { dns_query("$rU", "q"); $var(q) = $rc; dns_sys_match_ip("$rU", "2001:db8:0::1"); $var(m) = $rc;\n'
              'xlog("OUT: $var(q) $var(m) $dns(q=>count) $dns(q=>ipv4) $dns(q=>ipv6) $dns(q=>addr) '
              '$dns(q=>addr[1]) $dns(q=>type[1]) $dns(q=>addr[-1]) $dns(q=>addr[7])\\n"); }\n')  # fmt: skip
    for host in ("two.test", "none.test", "192.0.2.9"):
        b.request("OPTIONS", f"sip:{host}@x")
    assert [line.partition("OUT: ")[2] for line in b.log.lines if "OUT:" in line] == [
        "1 1 2 1 1 192.0.2.1 2001:db8::1 6 2001:db8::1 <null>",
        "-4 -4 <null> <null> <null> <null> <null> <null> <null> <null>",
        "1 -1 1 1 0 192.0.2.9 <null> <null> 192.0.2.9 <null>",
    ]
