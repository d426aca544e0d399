"""Module tls: SIP over TLS with the ssl module of Python. https://www.kamailio.org/docs/modules/stable/modules/tls.html

Certificates and rules come from ``tls.cfg`` (:mod:`.config`) or from the parameters. ``tls.reload`` reads them again: connections that are
there go on with what they began with, new ones get the new.
"""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any, Final

from kamc.declare import ANY, Module, Routes, Spread, function, rpc
from kamc.declare.values import to_str
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.net.connection import Connection, SecurityFacts
from kamc.runtime.net.endpoint import Flow, Listener
from kamc.runtime.rpc.fault import RpcFault
from stdlib_modules.tls.config import Domain, Domains, parse, set_option
from stdlib_modules.tls.variables import TlsVariables, description, facts

_DEFAULT_FILE: Final = "cert.pem"


class Tls(TlsVariables, Module):
    name = "tls"
    stats = {"tls": ("opened_connections", "max_connections", "clear_text_write_queued_bytes")}
    tuning_params = (
        "tls_log", "tls_debug", "session_cache", "session_id", "tls_disable_compression", "ssl_release_buffers", "ssl_freelist_max_len", "ssl_max_send_fragment",
        "ssl_read_ahead", "con_ct_wq_max", "ct_wq_max", "ct_wq_blk_size", "low_mem_threshold1", "low_mem_threshold2", "init_mode", "rand_engine",
    )  # fmt: skip
    ignored_params = ("tls_force_run", "event_callback", "send_close_notify", "renegotiation", "keylog_peer")

    class Params:
        tls_method: str = ""
        server_name: str = ""
        verify_certificate: int = 0
        verify_depth: int = 9
        require_certificate: int = 0
        verify_client: str = "off"
        private_key: str = ""
        private_key_password: str = ""
        certificate: str = ""
        ca_list: str = ""
        ca_path: str = ""
        crl: str = ""
        cipher_list: str = ""
        config: str = ""
        connection_timeout: int = 600
        xavp_cfg: str = ""
        engine: str = "NONE"
        engine_config: str = "NONE"
        engine_algorithms: str = "ALL"
        provider_quirks: int = 0
        provider_quirks_config: str = ""
        key_password_mode: int = 0
        keylog_mode: int = 0
        keylog_file: str = ""

    def mod_init(self) -> None:
        p = self.p
        if p.engine not in ("", "NONE") or p.engine_config not in ("", "NONE") or p.engine_algorithms not in ("", "ALL", "NONE"):
            raise ConfigError("tls: OpenSSL engines are not available")
        if p.provider_quirks or p.provider_quirks_config:
            raise ConfigError("tls: provider_quirks are not available")
        if p.key_password_mode:
            raise ConfigError("tls: key_password_mode is not implemented: private_key_password is used as it is")
        #: of tls_set_connect_server_id: for the connections that follow
        self.server_id = ""
        self.lifetime = float(p.connection_timeout) if p.connection_timeout > 0 else 1e9
        self.domains = self._load()
        self.rt.hooks.security = self
        if p.xavp_cfg:
            self.rt.hooks.tls_wish = self._wish
        self.rt.hooks.statistics["tls", "opened_connections"] = lambda: len(self._connections())
        self.rt.hooks.partial |= {("tls", "opened_connections"), ("tls", "clear_text_write_queued_bytes")}
        self.rt.hooks.statistics["tls", "max_connections"] = lambda: int(self.rt.param("tls_max_connections") or 0)
        self.rt.hooks.statistics["tls", "clear_text_write_queued_bytes"] = lambda: sum(len(c.out) for c in self._connections())

    def _connections(self) -> list[Connection]:
        return [c for c in self.rt.worker.streams.connections.values() if c.secure]

    # -- configuration ---------------------------------------------------------------------------------------------------

    def data_files(self) -> dict[str, str]:
        """Also certificates and keys: who renews them writes them in their place."""
        files = [str(self._path(self.p.config))] if self.p.config else []
        for domain in self.domains.sections:
            files += [path for path in (domain.certificate, domain.private_key, domain.ca_list, domain.crl) if path]
        return dict.fromkeys(files, "tls.reload")

    def _path(self, name: str) -> Path:
        """Names that begin with a dot are meant from the working folder, others from the folder of the configuration."""
        return Path(name) if name.startswith((".", "/")) else Path(self.rt.base or ".") / name

    def _defaults(self) -> dict[str, Any]:
        """What the parameters say, for every section that says nothing else. Raises ConfigError."""
        p = self.p
        domain = Domain("server", where="modparam")
        try:
            set_option(domain, "verify_client", p.verify_client, self._path)
        except ValueError as err:
            raise ConfigError(f"tls: {err}") from None
        values = {
            "method": p.tls_method or domain.method, "verify_certificate": bool(p.verify_certificate) or domain.verify_certificate,
            "require_certificate": bool(p.require_certificate) or domain.require_certificate, "verify_depth": p.verify_depth,
            "private_key_password": p.private_key_password, "cipher_list": p.cipher_list,
        }  # fmt: skip
        files = {"private_key": p.private_key, "certificate": p.certificate, "ca_list": p.ca_list, "ca_path": p.ca_path, "crl": p.crl}
        return values | {name: str(self._path(value)) if value else "" for name, value in files.items()}

    def _load(self) -> Domains:
        """Raises ConfigError."""
        p, defaults = self.p, self._defaults()
        keylog = p.keylog_file if p.keylog_mode else ""
        if p.config:
            path = self._path(p.config)
            try:
                text = path.read_text("utf-8")
            except (OSError, UnicodeError) as err:
                raise ConfigError(f"tls: cannot read {path}: {getattr(err, 'strerror', None) or err}") from None
            sections = parse(text, str(path), defaults, self._path)
        else:
            own = defaults | {"server_name": p.server_name}
            if not own["certificate"]:
                own |= {"certificate": str(self._path(_DEFAULT_FILE)), "private_key": str(self._path(_DEFAULT_FILE))}
            sections = [Domain("server", **(own | {"server_name": ""}), where="modparam"), Domain("client", **own, where="modparam")]
        if not any(d.side == "client" and d.kind == "default" for d in sections):
            sections.append(Domain("client", **defaults, where="default"))
        for section in sections:
            if section.verify_depth != 9:
                self.rt.log.warning("tls: %s: verify_depth has no effect: chains are as long as OpenSSL lets them be", section.where)
        return Domains(sections, keylog)

    # -- connections -----------------------------------------------------------------------------------------------------

    def server(self, sock: socket.socket, listener: Listener) -> ssl.SSLSocket:
        """The server side of a connection. Raises OSError."""
        domain = self.domains.find_server((listener.host, listener.port))
        if domain is None or domain.context is None:
            raise OSError(f"tls.cfg has no section for {listener}")
        return domain.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    def client(self, sock: socket.socket, listener: Listener, remote: tuple[str, int], wish: tuple[str, str] = ("", "")) -> ssl.SSLSocket:
        """The client side of a connection; ``wish`` holds server name and server_id of xavp_cfg. Raises OSError."""
        name, ident = wish
        domain = self.domains.find_client(remote, name, ident or self.server_id)
        if domain is None or domain.context is None:
            raise OSError(f"tls.cfg has no section for connections to {remote[0]}:{remote[1]}")
        if not self._allowed(listener, remote):
            raise OSError("dropped by event_route[tls:connection-out]")
        return domain.context.wrap_socket(sock, do_handshake_on_connect=False, server_hostname=name or domain.server_name or None)

    @staticmethod
    def facts(sock: ssl.SSLSocket) -> SecurityFacts:
        """What a handshake has shown."""
        return facts(sock)

    def _allowed(self, listener: Listener, remote: tuple[str, int]) -> bool:
        """``event_route[tls:connection-out]`` may drop a connection that is being opened."""
        if not self.rt.has_event("tls:connection-out"):
            return True
        return bool(self.rt.run_event("tls:connection-out", self.rt.worker.fake_context(flow=Flow(listener, *remote))))

    def _wish(self, ctx: Ctx) -> tuple[str, str]:
        """What ``$xavp(xavp_cfg=>server_name)`` and ``=>server_id`` want of the next connection."""
        roots = ctx.xavps.get("xavp", {}).get(self.p.xavp_cfg)
        fields = roots[0] if roots and isinstance(roots[0], dict) else {}
        return tuple(to_str(fields[key][0]) if fields.get(key) else "" for key in ("server_name", "server_id"))  # type: ignore[return-value]

    @function(Routes.REQUEST)
    def is_peer_verified(self, ctx: Ctx) -> int:
        """Whether the message came over TLS, from a client whose certificate was checked."""
        return 1 if self.verified(ctx) else -1

    @function(ANY)
    def tls_set_connect_server_id(self, ctx: Ctx, srvid: str) -> int:
        """The section, by its server_id, for connections that are opened from now on; an empty text ends it."""
        self.server_id = srvid
        return 1

    # -- RPC -------------------------------------------------------------------------------------------------------------

    @rpc("tls.reload", spread=Spread.EVERY)
    def rpc_reload(self) -> str:
        """Read the certificates and rules again; connections that are there stay."""
        try:
            self.domains = self._load()
        except ConfigError as err:
            self.rt.log.error("%s", err)
            raise RpcFault(500, f"Error while fixing TLS configuration (consult server log): {err}") from None
        return "Ok. TLS configuration reloaded."

    @rpc("tls.list", spread=Spread.JOIN)
    def rpc_list(self) -> list[dict[str, Any]]:
        """TLS connections."""
        now = self.rt.now()
        return [
            {"id": c.id, "timeout": max(0, int(c.deadline - now)), "src_ip": c.remote[0], "src_port": c.remote[1], "dst_ip": c.listener.host,
             "dst_port": c.listener.port, "cipher": description(c.sock) if isinstance(c.sock, ssl.SSLSocket) else "none", "ct_wq_size": len(c.out),
             "enc_rd_buf": 0, "flags": 2, "state": "handshake" if c.shaking or c.opening else "established"}
            for c in self._connections()
        ]  # fmt: skip

    @rpc("tls.info", spread=Spread.SHOWN)
    def rpc_info(self) -> dict[str, int]:
        """How many connections there are, and may be."""
        return {name: self.rt.counters.get("tls", name) for name in ("max_connections", "opened_connections", "clear_text_write_queued_bytes")}

    @rpc("tls.options")
    def rpc_options(self) -> dict[str, Any]:
        """The parameters."""
        p = self.p
        return {
            "method": p.tls_method or "TLSv1.2+", "verify_certificate": p.verify_certificate, "verify_depth": p.verify_depth,
            "require_certificate": p.require_certificate, "verify_client": p.verify_client, "private_key": p.private_key or None, "ca_list": p.ca_list or None,
            "certificate": p.certificate or None, "cipher_list": p.cipher_list or None, "config": str(self._path(p.config)) if p.config else None,
            "connection_timeout": p.connection_timeout,
        }  # fmt: skip

    @rpc("tls.kill", spread=Spread.EVERY)
    def rpc_kill(self, number: int) -> str:
        """Close a TLS connection."""
        conn = self.rt.worker.streams.connections.get(number)
        if conn is None or not conn.secure:
            raise RpcFault(404, "No such TLS connection")
        self.rt.worker.streams.close(conn, "tls.kill")
        return "Ok"


module = Tls
