"""Several workers: each request finds its owner, and what Kamailio's processes share is shared."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable

from kamc.runtime.net.steer import owner_of_call
from tests.conftest import Server
from tests.integration.test_reload import reload, rpc, status, until
from tests.phone import Phone

WORKERS = 3

TEXT = """#!KAMAILIO
debug=1
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "tmx.so"
loadmodule "pv.so"
loadmodule "rr.so"
loadmodule "kex.so"
loadmodule "htable.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "dialog.so"
loadmodule "cfgutils.so"
loadmodule "statistics.so"
loadmodule "pike.so"
modparam("htable", "htable", "t=>size=4;initval=0")
modparam("dialog", "default_timeout", 3600)
modparam("dialog", "profiles_with_value", "who")
modparam("statistics", "variable", "seen")
modparam("pike", "reqs_density_per_unit", 16)
modparam("rr", "append_fromtag", 0)
request_route {
	if (has_totag()) {
		loose_route();
		if (!t_relay()) sl_reply_error();
		exit;
	}
	if (method == "CANCEL") { t_relay(); exit; }
	switch ($rU) {
		case "who":
			update_stat("seen", "+1");
			sl_send_reply("200", "$pp $shtinc(t=>n) $shvinc(n)");
			exit;
		case "lock":
			lock("door");
			$shv(inside) = $shv(inside) + 1;
			$var(most) = $shv(inside);
			usleep("30000");
			if ($shv(inside) > $var(most)) $var(most) = $shv(inside);
			$shv(inside) = $shv(inside) - 1;
			unlock("door");
			sl_send_reply("200", "$var(most)");
			exit;
		case "size":
			get_profile_size("who", "phone", "$var(size)");
			sl_send_reply("200", "$var(size)");
			exit;
		case "flood":
			if (!pike_check_req()) sl_send_reply("503", "Enough"); else sl_send_reply("200", "OK");
			exit;
		case "ready":
			sl_send_reply("200", "OK");
			exit;
	}
	if (method == "REGISTER") { save("location"); exit; }
	record_route();
	if (method == "INVITE") { dlg_manage(); set_dlg_profile("who", "phone"); }
	if (!lookup("location")) { sl_send_reply("404", "Not Found"); exit; }
	if (!t_relay()) sl_reply_error();
}
"""


def reason(text: str) -> str:
    return text.split("\r\n")[0].removeprefix("SIP/2.0 ")


def several(serve: Callable[..., Server], text: str = TEXT, *args: str) -> Server:
    server = serve(text, "--workers", str(WORKERS), *args)
    assert len(status(server)["workers"]) == WORKERS
    return server


def call_of(worker: int, name: str = "c") -> str:
    """A Call-ID whose requests a worker takes."""
    return next(f"{name}{n}@h" for n in range(1000) if owner_of_call(f"{name}{n}@h", WORKERS) == worker)


def pids_of(server: Server) -> list[int]:
    """The process of each worker, by its number."""
    rows = rpc(server, "core.psx")
    return [p["PID"] for p in sorted(rows, key=lambda p: p["IDX"]) if p["IDX"]]


def sizes(server: Server) -> set[str]:
    """The size of the profile as each worker sees it: what one counts the others hear of a moment later."""
    return {reason(server.ask("OPTIONS", "sip:size@h", call_id=call_of(w))) for w in range(WORKERS)}


def test_requests_are_spread_and_counted_together(serve: Callable[..., Server]) -> None:
    server = several(serve)
    answers = [reason(server.ask("OPTIONS", "sip:who@h", call_id=f"spread{n}")).split()[1:] for n in range(60)]
    assert {int(a[0]) for a in answers} == set(status(server)["workers"])
    assert sorted(int(a[1]) for a in answers) == sorted(int(a[2]) for a in answers) == list(range(1, 61))
    pids = {p["PID"] for p in rpc(server, "core.psx")}
    assert set(status(server)["workers"]) < pids and len(pids) == WORKERS + 1
    assert rpc(server, "stats.get_statistics", "seen") == ["script:seen = 60"]


def test_the_same_call_meets_the_same_worker(serve: Callable[..., Server]) -> None:
    server = several(serve)
    pids = pids_of(server)
    for worker in range(WORKERS):
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.sock.close()
        server.sock = other
        other.bind(("127.0.0.1", 0))
        other.settimeout(5)
        for _ in range(3):
            assert reason(server.ask("OPTIONS", "sip:who@h", call_id=call_of(worker))).split()[1] == str(pids[worker])


def test_contacts_of_one_user_by_all_workers(serve: Callable[..., Server]) -> None:
    server = several(serve)
    count = 12
    for n in range(count):
        server.send("REGISTER", "sip:h", f"Contact: <sip:ann@127.0.0.1:{6000 + n}>", "Expires: 600", to="<sip:ann@h>", call_id=f"reg{n}")
    assert {reason(server.receive()) for _ in range(count)} == {"200 OK"}
    (domain,) = rpc(server, "ul.dump")["Domains"]
    (aor,) = domain["Domain"]["AoRs"]
    ports = {int(c["Contact"]["Address"].rpartition(":")[2]) for c in aor["Info"]["Contacts"]}
    assert ports >= set(range(6000, 6000 + count))


def test_a_lock_is_held_against_other_workers(serve: Callable[..., Server]) -> None:
    server = several(serve)
    for n in range(9):
        server.send("OPTIONS", "sip:lock@h", call_id=call_of(n % WORKERS, f"lock{n}-"))
    assert [reason(server.receive()) for _ in range(9)] == ["200 1"] * 9


def test_a_flood_is_seen_by_all_workers(serve: Callable[..., Server]) -> None:
    server = several(serve)
    answers = [reason(server.ask("OPTIONS", "sip:flood@h", call_id=f"flood{n}")) for n in range(60)]
    assert answers[0] == "200 OK" and "503 Enough" in answers[:50]


def phones(server: Server, *users: str, transport: str = "udp", port: int = 0) -> list[Phone]:
    found = [Phone(user, transport, port or server.port) for user in users]
    for phone in found:
        phone.register()
    return found


def test_calls_of_all_workers_are_in_one_profile(serve: Callable[..., Server]) -> None:
    server = several(serve, TEXT, "--alias", "phones.test")
    users = [f"{side}{n}" for n in range(6) for side in "ab"]
    there = phones(server, *users)
    pairs = list(zip(there[::2], there[1::2], strict=True))
    talks = [a.dial(b) for a, b in pairs]
    assert len({owner_of_call(t.call_id, WORKERS) for t in talks}) > 1
    until(lambda: sizes(server) == {f"200 {len(talks)}"})
    assert len(rpc(server, "dlg.list")) == len(talks)
    assert len({d["h_entry"] * 2**32 + d["h_id"] for d in rpc(server, "dlg.list")}) == len(talks)
    assert rpc(server, "dlg.stats_active")["ongoing"] == len(talks)
    for (a, b), talk in zip(pairs, talks, strict=True):
        a.hang_up(b, talk)
    until(lambda: sizes(server) == {"200 0"})
    assert rpc(server, "tm.stats")["total"] >= 2 * len(talks)
    for phone in there:
        phone.close()


def test_connections_are_found_by_every_worker(serve: Callable[..., Server]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = several(serve, TEXT, "--alias", "phones.test", "-l", f"tcp:127.0.0.1:{port}")
    by_stream = phones(server, "tim", "tom", transport="tcp", port=port)
    by_datagram = phones(server, "uma", "una")
    for _ in range(3):
        for a in by_stream:
            for b in by_datagram:
                a.call(b)
                b.call(a)
        by_stream[0].call(by_stream[1])
    # nobody has opened another one
    assert len(rpc(server, "core.tcp_list")) == 2
    assert rpc(server, "core.tcp_info")["opened_connections"] == 2
    for phone in (*by_stream, *by_datagram):
        phone.close()
    until(lambda: rpc(server, "core.tcp_info")["opened_connections"] == 0)


def test_a_worker_that_is_killed(serve: Callable[..., Server]) -> None:
    server = several(serve, TEXT, "--alias", "phones.test")
    there = phones(server, *(f"{side}{n}" for n in range(6) for side in "ab"))
    pairs = list(zip(there[::2], there[1::2], strict=True))
    talks = [a.dial(b) for a, b in pairs]
    before = status(server)["workers"]
    os.kill(before[1], signal.SIGKILL)
    until(lambda: len(set(status(server)["workers"]) | set(before)) == WORKERS + 1 and len(status(server)["workers"]) == WORKERS)
    until(lambda: sizes(server) == {f"200 {len(talks)}"})
    assert len(rpc(server, "dlg.list")) == len(talks)
    for (a, b), talk in zip(pairs, talks, strict=True):
        a.hang_up(b, talk)
    assert set(rpc(server, "dlg.stats_active").values()) == {0}
    there[0].call(there[3])
    for phone in there:
        phone.close()


def test_a_reload_of_all_workers(serve: Callable[..., Server]) -> None:
    server = several(serve)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    more = f"listen=udp:127.0.0.1:{port}\n"
    server.cfg.write_text(TEXT.replace('"200", "$pp', '"200", "new $pp').replace("debug=1\n", "debug=1\n" + more))
    assert reload(server)["state"] == "active"
    answers = [reason(server.ask("OPTIONS", "sip:who@h", call_id=call_of(w))).split()[1:3] for w in range(WORKERS)]
    assert answers == [["new", str(pid)] for pid in pids_of(server)]
    assert [g["generation"] for g in rpc(server, "kamc.generations")] == [2] * WORKERS


def test_a_transaction_that_another_worker_goes_on_with(serve: Callable[..., Server]) -> None:
    text = TEXT.replace('case "size":', """case "park":
			t_newtran();
			$shv(index) = $T(id_index);
			$shv(label) = $T(id_label);
			t_suspend();
			exit;
		case "wake":
			if (t_continue("$shv(index)", "$shv(label)", "AWAKE")) sl_send_reply("200", "woken"); else sl_send_reply("404", "nobody");
			exit;
		case "size":""") + 'route[AWAKE] {\n\tt_reply("299", "$pp");\n}\n'
    server = several(serve, text)
    pids = pids_of(server)
    for parked, waker in ((1, 0), (0, 2), (2, 2)):
        server.send("MESSAGE", "sip:park@h", call_id=call_of(parked, "park"), cseq=waker + 1)
        until(lambda: rpc(server, "tm.stats")["current"] > rpc(server, "tm.stats")["waiting"])
        server.send("OPTIONS", "sip:wake@h", call_id=call_of(waker, "wake"))
        assert {reason(server.receive()) for _ in range(2)} == {"200 woken", f"299 {pids[parked]}"}
        assert reason(server.ask("OPTIONS", "sip:wake@h", call_id=call_of((parked + 1) % WORKERS, "again"))) == "404 nobody"


def who(call_id: str, header: str = "Call-ID", cseq: int = 1) -> bytes:
    return (f"OPTIONS sip:who@h SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5;branch=z9hG4bKw{cseq}{call_id}\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\n"
            f"{header}: {call_id}\r\nCSeq: {cseq} OPTIONS\r\nContent-Length: 0\r\n\r\n").encode()  # fmt: skip


def test_what_the_kernel_cannot_read_comes_to_its_owner(serve: Callable[..., Server]) -> None:
    server = several(serve)
    pids = pids_of(server)
    for header in ("i", "call-id", "X: " + "y" * 2000 + "\r\nCall-ID"):
        for worker in range(WORKERS):
            server.sock.sendto(who(call_of(worker), header).replace(b"127.0.0.1:5;", b"127.0.0.1:%d;" % server.sock.getsockname()[1]), ("127.0.0.1", server.port))
            assert reason(server.receive()).split()[1] == str(pids[worker])


def test_what_comes_together_in_a_stream_is_answered_in_order(serve: Callable[..., Server]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = several(serve, TEXT, "-l", f"tcp:127.0.0.1:{port}")
    pids = pids_of(server)
    count = 60
    owners = [(n * n // 3) % WORKERS for n in range(count)]
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(5)
        sock.sendall(b"".join(who(call_of(owner, f"r{n}"), cseq=n + 1) for n, owner in enumerate(owners)))
        got = b""
        while got.count(b"\r\n\r\n") < count:
            got += sock.recv(65536)
    answers = got.decode().split("\r\n\r\n")[:count]
    assert [a.partition("CSeq: ")[2].partition(" ")[0] for a in answers] == [str(n + 1) for n in range(count)]
    assert [reason(a).split()[1] for a in answers] == [str(pids[owner]) for owner in owners]


def test_a_dialog_of_another_worker(serve: Callable[..., Server]) -> None:
    text = TEXT.replace('case "size":', """case "look":
			$var(rc) = dlg_get("$hdr(X-Call)", "$hdr(X-From)", "$hdr(X-To)");
			switch ($hdr(X-Do)) {
				case "mark": $dlg_var(k) = "v"; dlg_setflag("3"); dlg_set_timeout("77"); set_dlg_profile("who", "marked"); break;
				case "clear": $dlg_var(k) = $null; dlg_resetflag("3"); break;
				case "end": dlg_bye("all"); break;
			}
			$var(k) = "none";
			dlg_get_var("$hdr(X-Call)", "$hdr(X-From)", "$hdr(X-To)", "k", "$var(k)");
			if (dlg_isflagset("3")) $var(f) = 1; else $var(f) = 0;
			if (is_in_profile("who", "marked")) $var(p) = 1; else $var(p) = 0;
			sl_send_reply("200", "$var(rc) $dlg(to_uri) $dlg(lifetime) $dlg_var(k) $var(k) $var(f) $var(p)");
			exit;
		case "size":""")
    server = several(serve, text, "--alias", "phones.test")
    a, b = phones(server, "ann", "bob")
    talk = a.dial(b)
    owner = owner_of_call(talk.call_id, WORKERS)

    def look(worker: int, what: str = "", *, to: str = "bob") -> str:
        server.serial += 1
        return reason(server.ask("OPTIONS", "sip:look@h", f"X-Call: {talk.call_id}", "X-From: ann", f"X-To: {to}", f"X-Do: {what}",
                                 call_id=call_of(worker, f"look{server.serial}-")))  # fmt: skip

    others = [w for w in range(WORKERS) if w != owner]
    for worker in range(WORKERS):
        assert look(worker) == "200 1 sip:bob@phones.test 3600 <null> none 0 0"
        assert look(worker, to="nobody").startswith("200 -1 ")
    assert look(others[0], "mark").startswith("200 1 sip:bob@phones.test 77 v ")
    for worker in range(WORKERS):
        until(lambda: look(worker) == "200 1 sip:bob@phones.test 77 v v 1 1")  # noqa: B023
    assert look(others[1], "clear").startswith("200 1 sip:bob@phones.test 77 <null> ")
    for worker in range(WORKERS):
        until(lambda: look(worker) == "200 1 sip:bob@phones.test 77 <null> none 0 1")  # noqa: B023
    look(others[0], "end")
    for phone in (a, b):
        phone.answer(phone.until("BYE"), "200 OK")
    until(lambda: rpc(server, "dlg.stats_active")["ongoing"] == 0)
    for phone in (a, b):
        phone.close()
