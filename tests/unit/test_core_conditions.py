"""Core conditions over URIs that cannot be parsed: what the real 5.6.3 prints."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.harness import Bench

BODY = """
request_route {
    if (uri==myself) { xlog("A1 "); } else { xlog("A0 "); }
    if (uri!=myself) { xlog("B1 "); } else { xlog("B0 "); }
    if (!(uri==myself)) { xlog("C1 "); } else { xlog("C0 "); }
    if (uri==myself && method=="OPTIONS") { xlog("D1 "); } else { xlog("D0 "); }
    if (method=="OPTIONS" && uri==myself) { xlog("E1 "); } else { xlog("E0 "); }
    if (method!="OPTIONS" || uri==myself) { xlog("F1 "); } else { xlog("F0 "); }
    $var(x) = (uri==myself);
    xlog("G$var(x)");
}
"""


@pytest.mark.parametrize(
    ("uri", "printed"),
    [
        ("sip:127.0.0.1", "A1 B0 C0 D1 E1 F1 G1"),
        ("sip:other.test", "A0 B1 C1 D0 E0 F0 G0"),
        ("tel:+12345;phone-context=example.com", "A0 B1 C1 D0 E0 F0 G0"),
        ("sip::@127.0.0.1::5060", "A0 B0 C0 D1 E1 F1 G0"),
    ],
)
def test_own_uris(bench: Callable[..., Bench], uri: str, printed: str) -> None:
    b = bench(BODY)
    b.log.lines.clear()
    b.request("OPTIONS", uri)
    assert "".join(line for line in b.log.lines if line[0] in "ABCDEFG" and line[1:2] in "01") == printed
