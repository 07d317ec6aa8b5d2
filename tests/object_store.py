"""An S3 server on this machine, for tests: a real one to whoever speaks to it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.server import ThreadedMotoServer
from obstore.exceptions import GenericError

from raydistill.storage import fetcher, mirror
from raydistill.storage.store import store

BUCKET = "bucket"


@dataclass(frozen=True)
class S3Server:
    """A running server, and what processes need in their environment to use it."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


def _one_at_a_time(answer: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``answer``, which no two requests are given at once: a store's conditional writes are indivisible."""
    lock = threading.Lock()

    def answer_alone(*request: Any) -> list[bytes]:
        with lock:
            return list(answer(*request))

    return answer_alone


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    """Run a server with an empty bucket, and let this process use it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    server = S3Server(f"http://{host}:{port}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DomainDispatcherApplication, "__call__", _one_at_a_time(DomainDispatcherApplication.__call__))
        for name, value in server.environment.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        _forget_other_servers()
        try:
            yield server
        finally:
            moto.stop()
            _forget_other_servers()


def _forget_other_servers() -> None:
    """Let this process connect anew: an earlier test's server had another address."""
    fetcher._store.cache_clear()
    fetcher._helper_of.cache_clear()


@dataclass
class UnsteadyClient:
    """A store's client that takes ``after`` objects of this name and then fails so often at the next ones."""

    inner: Any
    name: str
    failures: int
    after: int = 0
    error: Exception = field(default_factory=lambda: GenericError("PUT - HTTP error: error sending request"))

    def put(self, path: str, *arguments: Any, **options: Any) -> Any:
        if path.endswith(self.name):
            self.after -= 1
            if self.after < 0 and self.failures > 0:
                self.failures -= 1
                raise self.error
        return self.inner.put(path, *arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def unsteady(patch: pytest.MonkeyPatch, name: str, failures: int) -> UnsteadyClient:
    """Let outputs from now on (those with a cache of their own) be on a store that fails so often at such objects."""
    client = UnsteadyClient(store(f"s3://{BUCKET}").client, name, failures)
    patch.setattr(mirror, "store", lambda uri: dataclasses.replace(store(uri), client=client))
    return client
