"""A telephone's lamp for somebody else's line: calls are published (pua_dialoginfo) to the server's own agent (presence_dialoginfo), which tells who watches; so are
registrations (pua_usrloc). With one worker and with several."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable

import pytest

from tests.conftest import Server
from tests.phone import DOMAIN, Phone, header

TEXT = """#!KAMAILIO
debug=1
alias="phones.test"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "pv.so"
loadmodule "rr.so"
loadmodule "kex.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "siputils.so"
loadmodule "textops.so"
loadmodule "dialog.so"
loadmodule "presence.so"
loadmodule "presence_xml.so"
loadmodule "presence_dialoginfo.so"
loadmodule "pua.so"
loadmodule "pua_usrloc.so"
loadmodule "pua_dialoginfo.so"
modparam("rr", "append_fromtag", 0)
modparam("presence", "server_address", "sip:127.0.0.1:__PORT__")
modparam("presence_xml", "force_active", 1)
modparam("pua", "outbound_proxy", "sip:127.0.0.1:__PORT__")
modparam("pua_usrloc", "default_domain", "phones.test")
request_route {
	if (is_method("PUBLISH")) { t_newtran(); handle_publish(); exit; }
	if (is_method("SUBSCRIBE")) { t_newtran(); handle_subscribe(); exit; }
	if (has_totag()) { loose_route(); t_relay(); exit; }
	if (method == "REGISTER") { pua_set_publish(); save("location"); exit; }
	record_route();
	if (method == "INVITE") dlg_manage();
	if (!lookup("location")) { sl_send_reply("404", "Not Found"); exit; }
	t_relay();
}
"""


class Lamp(Phone):
    """A phone that watches."""

    def watch(self, user: str, event: str) -> None:
        self.request("SUBSCRIBE", f"sip:{user}@{DOMAIN}", f"Event: {event}", "Expires: 600", call_id=f"watch-{event}")
        self.until("SIP/2.0 200")

    def told(self, pattern: str, last: str) -> list[str]:
        """What NOTIFYs say, up to one that says ``last``."""
        seen: list[str] = []
        while not seen or seen[-1] != last:
            notify = self.until("NOTIFY")
            self.answer(notify, "200 OK")
            found = re.search(pattern, notify)
            if found is not None and seen[-1:] != [found[1]]:
                seen.append(found[1])
        return seen


@pytest.mark.parametrize("workers", [1, 3])
def test_the_lamp_shows_calls_and_registrations(serve: Callable[..., Server], workers: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve(TEXT.replace("__PORT__", str(port)), "--workers", str(workers), "-l", f"udp:127.0.0.1:{port}")
    lamp, ann, bob = Lamp("lamp", "udp", port), Phone("ann", "udp", port), Phone("bob", "udp", port)
    lamp.watch("bob", "presence")
    lamp.until("NOTIFY")
    ann.register()
    bob.register()
    assert lamp.told("<basic>(.*)</basic>", "open") == ["open"]
    other = Lamp("other", "udp", port)
    other.watch("bob", "dialog")
    notify = other.until("NOTIFY")
    other.answer(notify, "200 OK")
    assert header(notify, "Subscription-State").startswith("active")
    talk = ann.dial(bob)
    assert other.told("<state>(.*)</state>", "confirmed") == ["early", "confirmed"]
    ann.hang_up(bob, talk)
    assert other.told("<state>(.*)</state>", "terminated") == ["terminated"]
    bob.register(0)
    assert lamp.told("<basic>(.*)</basic>", "closed") == ["closed"]
    for phone in (lamp, other, ann, bob):
        phone.close()
