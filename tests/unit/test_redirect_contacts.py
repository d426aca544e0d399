"""Redirections of our own name the destination set (recorded from Kamailio 5.6.3)."""

from __future__ import annotations

import pytest

SET = '$ru = "sip:one@192.0.2.1"; '


@pytest.mark.parametrize("send", ['t_newtran(); t_reply("302", "Go");', 'sl_send_reply("302", "Go");'])
@pytest.mark.parametrize(
    ("route", "contacts"),
    [
        ("", []),
        (SET, ["<sip:one@192.0.2.1>"]),
        ('append_branch("sip:two@192.0.2.2"); ', ["<sip:two@192.0.2.2>"]),
        (SET + 'append_branch("sip:two@192.0.2.2", "0.25"); ', ["<sip:one@192.0.2.1>, <sip:two@192.0.2.2>;q=0.25"]),
        (SET + 'append_to_reply("Contact: <sip:x@y>\\r\\n"); ', ["<sip:x@y>", "<sip:one@192.0.2.1>"]),
    ],
)
def test_contacts_of_a_redirection(bench, send: str, route: str, contacts: list[str]) -> None:
    b = bench("request_route { " + route + send + " }\n")
    b.request("OPTIONS")
    assert b.take()[-1].all("Contact") == contacts


def test_other_replies_name_nothing(bench) -> None:
    b = bench("request_route { " + SET + 't_newtran(); t_reply("404", "No"); }\n')
    b.request("OPTIONS")
    assert b.take()[-1].all("Contact") == []
