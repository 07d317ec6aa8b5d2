"""What stands between the code and an S3 server in tests: it counts reads, and fails when it is told to."""

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
    """Counts what passes; the next ``failures`` requests get a status after which pyarrow does not ask again itself."""

    requests: list[str] = field(default_factory=list)
    failures: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fails(self, line: str) -> bool:
        with self.lock:
            self.requests.append(line)
            failing = self.failures > 0
            self.failures -= failing
            return failing


def _handler(proxy: Proxy, server: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def forward(self) -> None:
            if proxy.fails(f"{self.command} {self.path}"):
                self.send_response(507)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            connection = http.client.HTTPConnection(urlsplit(server).netloc)
            connection.request(self.command, self.path, headers=dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _OF_THE_CONNECTION:
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = forward  # noqa: N815  (the server's names)

    return Handler


@contextlib.contextmanager
def proxy_of(url: str) -> Iterator[Proxy]:
    """Let this process read from the server at ``url`` through a proxy."""
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
