"""Module sqlops where the recorded program does not reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from kamc.errors import ConfigError

HEAD = 'loadmodule "db_sqlite.so"\nloadmodule "sqlops.so"\n'


def printed(b) -> list[str]:
    return [line.partition("OUT: ")[2] for line in b.log.lines if "OUT: " in line]


def test_a_query_that_waits_for_nothing(bench, tmp_path: Path) -> None:
    b = bench(HEAD + 'modparam("sqlops", "sqlcon", "c=>sqlite:///x.db")\nrequest_route { sql_query("c", "create table t (a text)"); '
              'sql_query_async("c", "insert into t values (\'$rm\')"); sql_query_async("c", "nonsense"); sql_query("c", "select a from t", "r"); '
              'xlog("OUT: $dbr(r=>[0,0])\\n"); sql_query_async("none", "x"); xlog("OUT: $rc\\n"); }\n')  # fmt: skip
    b.request("OPTIONS")
    assert printed(b) == ["OPTIONS", "-1"]
    assert any("nonsense" in line for line in b.log.lines)


def test_a_database_that_is_not_there(bench) -> None:
    with pytest.raises(ConfigError, match="cannot open database"):
        bench(HEAD + 'modparam("sqlops", "sqlcon", "c=>sqlite:////nowhere/x.db")\nrequest_route { exit; }\n')
    b = bench(HEAD + 'modparam("sqlops", "connect_mode", 1)\nmodparam("sqlops", "sqlcon", "c=>sqlite:////nowhere/x.db")\n'
              'request_route { sql_query("c", "select 1", "r"); xlog("OUT: $rc\\n"); sql_query("d", "select 1"); xlog("OUT: $rc\\n"); }\n')  # fmt: skip
    b.request("OPTIONS")
    assert printed(b) == ["-1", "-1"]


def test_a_slow_query_holds_up_nobody(tmp_path: Path) -> None:
    """Through a loop of its own: the query runs in a thread while other messages are served."""
    import asyncio
    import threading

    from tests.harness import HEAD as ALL
    from tests.harness import Bench

    b = Bench(tmp_path, 'modparam("sqlops", "sqlcon", "c=>sqlite:///x.db")\nrequest_route { if ($rm == "MESSAGE") sql_query("c", "select 7", "r"); '
              'sl_send_reply("200", "$rm $dbr(r=>[0,0])"); }\n', head=ALL + HEAD)  # fmt: skip
    database = b.worker.rt.database("sqlite:///x.db")
    go_on = threading.Event()
    raw = database._connection.raw
    database._connection.raw = lambda text: (go_on.wait(5), raw(text))[1]

    async def serve() -> None:
        b.worker.waits.loop = asyncio.get_running_loop()
        b.request("MESSAGE")
        b.request("OPTIONS")
        assert b.firsts() == ["SIP/2.0 200 OPTIONS <null>"]
        go_on.set()
        while not b.sent:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(serve(), 10))
    assert b.firsts() == ["SIP/2.0 200 MESSAGE 7"]
