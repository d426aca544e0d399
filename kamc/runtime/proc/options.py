"""The command line of a server, as its supervisor takes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Options:
    """What the command line says; each overrides the cfg."""

    listen: list[str] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    debug: int = 0
    debug_level: int | None = None
    work_dir: str | None = None
    run_dir: str | None = None
    pid_file: str | None = None
    user: str | None = None
    group: str | None = None
    no_tcp: bool = False
    server_id: int | None = None
    #: folder of the store that outlives the server; None for one that lives as long as it
    store: str | None = None
    #: seconds without a turn of its loop after which a worker is replaced; 0 for never
    hang_timeout: int = 15
    #: routes that may be set aside in a worker before new requests are refused; 0 for any number
    most_waiting: int = 10_000
    #: seconds that transactions have when the server is to end; 0 ends them
    drain: int = 0
    #: how many workers serve; 0 for as many as the configuration wants processes, and no more than there are processors
    workers: int = 1
    #: go into the background; write to syslog unless log_stderror says otherwise; file for the process group
    daemon: bool = False
    syslog: bool = False
    pgid_file: str | None = None
    #: loopback port of the status page, 0 for none; the command that serves it, behind which the port and the runtime folder are put
    status_port: int = 0
    status: list[str] = field(default_factory=list)
    #: text, json or journald
    log_format: str = "text"
    #: core parameters that the command line has the last word about
    overrides: dict[str, Any] = field(default_factory=dict)
    argv: list[str] = field(default_factory=list)
    #: compiles the configuration again, into a file whose name is put behind it; empty when there is nothing to compile
    rebuild: list[str] = field(default_factory=list)
    #: reload when a file of the configuration changes; the files, with digests of what was read
    watch: bool = False
    watched: dict[str, bytes] = field(default_factory=dict)
    #: have modules read their data files again when those change
    watch_data: bool = False
