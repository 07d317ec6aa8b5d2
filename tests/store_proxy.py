"""What stands between the code and an S3 server in tests: it counts requests, and fails when it is told to."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

_OF_THE_CONNECTION = ("connection", "keep-alive", "transfer-encoding", "content-length")


@dataclass
class Proxy:
    """Counts what passes; the next ``failures`` requests get a status, or no answer where ``status`` is None."""

    requests: list[str] = field(default_factory=list)
    failures: int = 0
    status: int | None = 503
    ignored: tuple[str, ...] = ()
    """Headers that the server is not told of."""
    loses: set[int] = field(default_factory=set)
    """Requests, counted from one, that reach the server, whose answer does not come back."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fails(self, line: str) -> tuple[bool, bool]:
        """Note a request; return whether it fails, and whether its answer is lost."""
        with self.lock:
            self.requests.append(line)
            failing = self.failures > 0
            self.failures -= failing
            return failing, len(self.requests) in self.loses


def _handler(proxy: Proxy, server: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fails, loses = proxy.fails(f"{self.command} {self.path}")
            if fails:
                self.fail()
                return
            connection = http.client.HTTPConnection(urlsplit(server).netloc)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in proxy.ignored}
            connection.request(self.command, self.path, body=body, headers=headers)
            answer = connection.getresponse()
            content = answer.read()
            if loses:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _OF_THE_CONNECTION:
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.wfile.write(content)

        def fail(self) -> None:
            if proxy.status is None:
                self.close_connection = True
                return
            self.send_response(proxy.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward  # noqa: N815  (the server's names)

    return Handler


@contextlib.contextmanager
def proxy_of(url: str) -> Iterator[Proxy]:
    """Let this process speak to the server at ``url`` through a proxy."""
    proxy = Proxy()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(proxy, url))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        try:
            yield proxy
        finally:
            server.shutdown()
            server.server_close()
