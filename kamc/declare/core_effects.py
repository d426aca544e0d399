"""What the core parameters of sockets, connections and names do in kamc: the table of docs/transports.md, and what the checker warns about.

A parameter in none of the three sets does not belong to this area.
"""

from __future__ import annotations

from typing import Final

#: read where it says
HONOURED: Final = frozenset({
    "listen", "port", "alias", "tos", "mhomed", "advertised_address", "advertised_port", "force_rport", "local_rport", "reply_to_via",
    "maxbuffer", "maxsndbuffer", "pmtu_discovery", "mcast_loopback", "mcast_ttl", "udp_mtu", "udp_mtu_try_proto",
    "disable_tcp", "tcp_accept_aliases", "tcp_accept_haproxy", "tcp_accept_iplimit", "tcp_accept_no_cl", "tcp_close_rst", "tcp_conn_wq_max", "tcp_connect_timeout",
    "tcp_connection_lifetime", "tcp_crlf_ping", "tcp_defer_accept", "tcp_delayed_ack", "tcp_keepalive", "tcp_keepcnt", "tcp_keepidle", "tcp_keepintvl", "tcp_linger2",
    "auto_aliases", "disable_sctp", "enable_sctp", "tcp_accept_unique", "tcp_connection_match", "tcp_script_mode", "ip_free_bind", "auto_bind_ipv6",
    "tcp_listen_backlog", "tcp_max_connections", "tcp_msg_read_timeout", "tcp_no_connect", "tcp_rd_buf_size", "tcp_reuse_port", "tcp_send_timeout", "tcp_source_ipv4",
    "tcp_source_ipv6", "tcp_syncnt", "tcp_wq_max", "enable_tls", "tls_max_connections",
    "use_dns_cache", "use_dns_failover", "dns_try_ipv6", "dns_try_naptr", "dns_srv_lb", "dns_udp_pref", "dns_tcp_pref", "dns_tls_pref", "dns_sctp_pref", "dns_retr_time",
    "dns_retr_no", "dns_servers_no", "dns_slow_query_ms", "dns_use_search_list", "dns_naptr_ignore_rfc", "dns_cache_flags", "dns_cache_negative_ttl", "dns_cache_max_ttl",
    "dns_cache_min_ttl", "dns_cache_mem", "dns_cache_del_nonexp", "use_dst_blocklist", "dst_blocklist_mem", "dst_blocklist_expire", "dst_blocklist_udp_imask",
    "dst_blocklist_tcp_imask", "dst_blocklist_tls_imask", "dst_blocklist_sctp_imask",
})  # fmt: skip

#: accepted, and nothing is lost: they tune processes, memory and system calls that kamc does not have
TUNING: Final = {
    "children": "see docs/workers.md", "tcp_children": "see docs/workers.md", "sctp_children": "see docs/workers.md",
    "socket_workers": "see docs/workers.md", "tcp_main_threads": "see docs/workers.md", "tls_threads_mode": "there are no threads",
    "udp_receiver_mode": "see docs/workers.md",
    "tcp_poll_method": "the event loop chooses it", "tcp_fd_cache": "connections do not move between processes", "tcp_buf_write": "writes are always queued",
    "tcp_wq_blk_size": "queues grow as needed", "tcp_clone_rcvbuf": "messages are never shared", "tcp_check_timer": "connections are looked at every second",
    "tcp_wait_data": "sends are queued from the start",
    "dns_cache_init": "the cache is there when it is used", "dns_cache_gc_interval": "entries that are too old go when they are met",
    "dns_cache_rec_pref": "an answer replaces the one before", "dns_search_full_match": "answers are matched by their name anyway",
    "dst_blocklist_init": "the list is there when it is used", "dst_blocklist_gc_interval": "entries that are too old go when they are met",
    "disable_tls": "TLS is off unless enable_tls says otherwise",
}  # fmt: skip

#: what they ask for is not done
WITHOUT_EFFECT: Final = {
    "dns": "names in Via are never looked up", "rev_dns": "addresses are never looked up",
    "bind_ipv6_link_local": "name the addresses in listen", "ipv6_hex_style": "addresses are written as RFC 5952 wants",
    "msg_recv_max_size": "a datagram may be as large as UDP lets it be, a stream's message as tcp_rd_buf_size", "mcast": "no group is joined",
    "tcp_accept_hep3": "no HEP",
    "tcp_accept_protocols": "all of SIP, HTTP and keepalives",
    "tcp_msg_data_timeout": "tcp_msg_read_timeout covers the whole message", "tls_connection_match_domain": "the address and port of the peer find a connection",
    "tls_handshake_timeout": "tcp_connect_timeout covers it", "tls_send_timeout": "tcp_send_timeout covers it", "tls_port_no": "say it in listen",
    "tls_method": "a parameter of module tls", "tls_verify": "a parameter of module tls", "tls_require_certificate": "a parameter of module tls",
    "tls_certificate": "a parameter of module tls", "tls_private_key": "a parameter of module tls", "tls_ca_list": "a parameter of module tls",
    "http_reply_hack": "HTTP goes to module xhttp", "udp_accept_proxy": "no PROXY protocol in datagrams",
    "udp4_raw": "datagrams leave by the listening socket",
    "udp4_raw_mtu": "datagrams leave by the listening socket", "udp4_raw_ttl": "datagrams leave by the listening socket",
    "xavp_via_params": "no parameters are added to Via", "xavp_via_fields": "Via is not changed by variables", "xavp_via_reply_params": "no parameters are added to Via",
}  # fmt: skip
