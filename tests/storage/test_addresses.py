"""Keys and tokens in addresses: refused by every reader and writer, and in no message, file or folder name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

import raydistill as rd
from raydistill import evaluate, report, train, tune
from raydistill.config import load_config
from raydistill.errors import UserError
from raydistill.storage.addresses import refuse_secrets, without_secrets
from raydistill.storage.mirror import mirrored
from raydistill.storage.output import Output
from raydistill.storage.remote_path import place_at
from raydistill.storage.store import store

SECRET = "SECRETWORD"
AT_HOST = f"s3://AKIAKEY:{SECRET}@bucket/x"
WITH_SLASH = f"s3://AKIAKEY:{SECRET}/MORE@bucket/x"
IN_QUERY = f"s3://bucket/x?X-Amz-Signature={SECRET}"
TOKEN = f"https://host/path?token={SECRET}"
ADDRESSES = (AT_HOST, WITH_SLASH, IN_QUERY, f"gs://{SECRET}@bucket/x", f"gcs://a:{SECRET}@bucket")


@pytest.mark.parametrize("address", [*ADDRESSES, TOKEN, f"https://me:{SECRET}@host/a b", f"s3:/a:{SECRET}@bucket/x"])
def test_no_text_shows_what_an_address_holds(address: str) -> None:
    shown = without_secrets(f"it is '{address}', not there")
    assert SECRET not in shown and "***" in shown and shown.startswith("it is '") and shown.endswith(", not there")


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/a@b/c",
        "me@host: hello",
        "a: b @ c",
        "/data/x?y=1",
        "https://host:80/a",
        "file:///a/b",
        "C:/a@b"[2:],
    ],
)
def test_what_holds_no_secret_stays(text: str) -> None:
    assert without_secrets(text) == text
    refuse_secrets(text)


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_way_to_an_object_store_refuses_credentials(address: str, tmp_path: Path) -> None:
    from raydistill.config.sections import Downloads

    cache = Downloads(folder=str(tmp_path / "cache")).cache
    ways: list[Callable[[], object]] = [
        lambda: store(address),
        lambda: mirrored(address),
        lambda: mirrored(address, reading=True),
        lambda: Output.at(address),
        lambda: place_at(address, cache),
        lambda: rd.load(address),
        lambda: rd.distill("quickstart", output=address, local=True),
        lambda: load_config("quickstart", [f"teacher.weights={address}"]),
        lambda: load_config("quickstart", {"data": {"format": "coco", "root": address}}),
    ]
    for way in ways:
        with pytest.raises(UserError, match=r"must (hold no key|name a bucket)") as caught:
            way()
        assert SECRET not in str(caught.value)
    assert [*tmp_path.iterdir()] == []


COMMANDS: dict[str, Callable[[], int]] = {
    "a recipe": lambda: train.main([AT_HOST]),
    "an output": lambda: train.main(["quickstart", "--local", "--output", AT_HOST]),
    "a cache": lambda: train.main(["quickstart", "--print-config", f"loader.cache={AT_HOST}"]),
    "a folder of downloads": lambda: train.main(["quickstart", "--print-config", f"downloads.folder={AT_HOST}"]),
    "a section": lambda: train.main(["quickstart", "--print-config", f"data={AT_HOST}"]),
    "no setting": lambda: train.main(["quickstart", "--print-config", AT_HOST]),
    "a token for MLflow": lambda: train.main(["quickstart", "--print-config", f"logging.mlflow.tracking_uri={TOKEN}"]),
    "a sweep": lambda: tune.main([AT_HOST]),
    "a sweep's output": lambda: tune.main(["quickstart", "--print-plan", "--output", AT_HOST]),
    "a sweep's space": lambda: tune.main(
        ["quickstart", "--print-plan", f"space.student.weights={{choice: ['{AT_HOST}', random]}}"]
    ),
    "weights": lambda: evaluate.main([AT_HOST, "data"]),
    "annotations": lambda: evaluate.main(["--annotations", AT_HOST, "--detections", AT_HOST]),
    "a report": lambda: report.main([AT_HOST]),
    "a report with a query": lambda: report.main([IN_QUERY]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_shows_or_keeps_credentials(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "raiseExceptions", False)
        assert COMMANDS[name]() == 2
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err
    assert said.err
    assert not [path for path in tmp_path.rglob("*") if SECRET in str(path)]
