"""Credentials, regions and endpoints of object stores."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from raydistill.storage import client
from raydistill.storage.client import region_of
from raydistill.storage.store import store
from tests.object_store import BUCKET, s3_server


@pytest.fixture(autouse=True)
def _without_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the environment nor this machine has any."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


@pytest.fixture
def regions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stand for Amazon, which refuses to say more than in which region a bucket is."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.send_response({"/elsewhere": 301, "/private": 403, "/public": 200}.get(self.path, 404))
            if self.path != "/missing":
                self.send_header("x-amz-bucket-region", "eu-north-1")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(client, "_REGIONS", f"http://127.0.0.1:{server.server_port}")
    region_of.cache_clear()
    yield
    server.shutdown()
    server.server_close()
    region_of.cache_clear()


def _profile(folder: Path) -> None:
    (folder / "credentials").write_text("[work]\naws_access_key_id = of-the-profile\naws_secret_access_key = secret\n")


def test_a_users_profile_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _profile(tmp_path)
    monkeypatch.setenv("AWS_PROFILE", "work")
    credentials = client._credentials()
    assert credentials is not None
    assert dict(credentials())["access_key_id"] == "of-the-profile"  # type: ignore[call-overload]


def test_a_store_is_used_with_the_credentials_of_a_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server():
        _profile(tmp_path)
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_PROFILE", "work")
        place = store(f"s3://{BUCKET}/x")
        place.write(b"text", "file")
        assert place.read("file")[0] == b"text"
        assert place.client.config["skip_signature"] == "false"


@pytest.mark.usefixtures("regions")
def test_without_credentials_requests_are_not_signed() -> None:
    assert store("s3://public/x").client.config["skip_signature"] == "true"


@pytest.mark.usefixtures("regions")
@pytest.mark.parametrize("bucket", ["elsewhere", "private", "public"])
def test_a_bucket_at_amazon_is_used_in_its_own_region(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    assert store(f"s3://{bucket}/x").client.config["region"] == "eu-north-1"


@pytest.mark.usefixtures("regions")
def test_where_amazon_does_not_tell_the_environments_region_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    assert region_of("missing") is None
    assert "region" not in store("s3://missing/x").client.config  # obstore reads it
    monkeypatch.setattr(client, "_REGIONS", "http://127.0.0.1:9")
    assert region_of("out-of-reach") is None
