"""What a configuration sets of transactions, and the numbers and texts that stand for what became of them."""

from __future__ import annotations

#: Kamailio's error numbers, as t_relay and t_newtran return them
E_BAD_ADDRESS, E_BAD_URI, E_SEND, E_NO_SOCKET, E_NO_DEST = -478, -479, -477, -7, -1

REASONS = {
    100: "Trying", 180: "Ringing", 181: "Call Is Being Forwarded", 183: "Session Progress", 200: "OK", 202: "Accepted", 300: "Multiple Choices",
    301: "Moved Permanently", 302: "Moved Temporarily", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 407: "Proxy Authentication Required", 408: "Request Timeout", 410: "Gone", 420: "Bad Extension", 476: "Unresolvable destination",
    477: "Send failed", 478: "Unresolvable destination", 479: "Regretfully, we were not able to process the URI", 480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist", 482: "Loop Detected", 483: "Too Many Hops", 484: "Address Incomplete", 486: "Busy Here", 487: "Request Terminated",
    488: "Not Acceptable Here", 500: "Server Internal Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Server Time-out",
    505: "Version Not Supported", 513: "Message Too Large", 600: "Busy Everywhere", 603: "Decline", 604: "Does Not Exist Anywhere", 606: "Not Acceptable",
}  # fmt: skip


class TmParams:
    """Settings of the engine, with the names and defaults of the tm module, whose ``Params`` they are; times in milliseconds."""

    fr_timer: int = 30000
    fr_inv_timer: int = 120000
    wt_timer: int = 5000
    retr_timer1: int = 500
    retr_timer2: int = 4000
    max_inv_lifetime: int = 180000
    max_noninv_lifetime: int = 32000
    auto_inv_100: int = 1
    auto_inv_100_reason: str = "trying -- your call is important to us"
    unmatched_cancel: int = 0
    cancel_b_method: int = 1
    restart_fr_on_each_reply: int = 1
    aggregate_challenges: int = 1
    remap_503_500: int = 1
    failure_reply_mode: int = 3
    faked_reply_prio: int = 0
    relay_100: int = 0
    e2e_cancel_reason: int = 1
    local_cancel_reason: int = 1
    reply_408_code: int = 408
    reply_408_reason: str = "Request Timeout"
    disable_6xx_block: int = 0
    failure_exec_mode: int = 0
    ac_extra_hdrs: str = ""
    callid_matching: int = 0
    callid_cseq_matching: int = 0
    blst_503: int = 0
    blst_503_def_timeout: int = 0
    blst_503_min_timeout: int = 0
    blst_503_max_timeout: int = 3600
