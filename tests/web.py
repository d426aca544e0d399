"""A web server for tests, on loopback."""

from __future__ import annotations

import http.server
import threading
from typing import Any

DATA = {"/one": b"line one\r\nline two\r\n", "/nl": b"a\nb\n", "/empty": b"", "/big": b"x" * 5000 + b"\nrest"}


class Web:
    """``seen`` are (method, path, headers, body)."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str], str]] = []
        self.go_on = threading.Event()
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode("latin-1")
                web.seen.append((self.command, self.path, dict(self.headers), body))
                if self.path == "/slow":
                    web.go_on.wait(5)
                if self.path == "/drip":
                    self.send_response(200)
                    self.end_headers()
                    while not web.go_on.wait(0.05):
                        self.wfile.write(b"x" * 20000)
                    return
                status, more = (int(self.path[5:]), {}) if self.path.startswith("/code") else (200, {})
                if self.path == "/redir":
                    status, more = 302, {"Location": "/one"}
                if self.path == "/secret" and "Authorization" not in self.headers:
                    status, more = 401, {"WWW-Authenticate": 'Basic realm="r"'}
                data = DATA.get(self.path, f"{self.command} {body}".encode("latin-1"))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **more}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, format: str, *args: Any) -> None:
                """Not here."""

        class Quiet(http.server.ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients that go away early are what some tests are about."""

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.go_on.set()
        self.server.shutdown()
        self.thread.join(5)
        self.server.server_close()
