"""What RAY_ADDRESS may name, against a head that is made up: a server that answers as Ray's does."""

from __future__ import annotations

import json
import platform
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
import ray
from ray._private import services
from ray._private.authentication import authentication_utils
from ray._private.authentication import grpc_authentication_client_interceptor as sent
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

from raydistill.errors import UserError
from raydistill.on_ray import head
from raydistill.on_ray.head import Patience, check_head
from raydistill.runs.events import Note
from raydistill.runs.stopping import Stop

AT_ONCE = Patience(0)
THIS = {"ray_version": ray.__version__, "python_version": platform.python_version()}


class _MadeUpHead(gcs_service_pb2_grpc.InternalKVGcsServiceServicer):
    def __init__(self) -> None:
        self.metadata: dict[str, str] | None = dict(THIS)
        self.token = ""

    def InternalKVGet(self, request: Any, context: Any) -> Any:  # noqa: N802  (Ray's name)
        given = dict(context.invocation_metadata()).get("authorization", "")
        if self.token and given != f"Bearer {self.token}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
        assert (request.namespace, request.key) == (b"cluster", b"CLUSTER_METADATA")
        value = b"" if self.metadata is None else json.dumps(self.metadata).encode()
        return gcs_service_pb2.InternalKVGetReply(value=value)


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[_MadeUpHead, str]]:
    """Give such a head and its address; a process of it runs on this machine."""
    monkeypatch.setattr(services, "find_node_ids", lambda: {"a-node"})
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    servicer, server = _MadeUpHead(), grpc.server(ThreadPoolExecutor(1))
    gcs_service_pb2_grpc.add_InternalKVGcsServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(0)


def test_a_head_of_the_same_versions_is_joined(made_up: tuple[_MadeUpHead, str]) -> None:
    check_head(made_up[1], AT_ONCE)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://head:8265", "that of its dashboard, which takes jobs.*RAY_ADDRESS=http://head:8265 ray job submit"),
        ("https://head", "that of its dashboard"),
        ("ray://head:10001", "that of Ray Client, which cannot run this.*ray job submit"),
        ("head", "got 'head'; correct it, or unset it"),
        ("head:0", "got 'head:0'"),
        ("head:70000", "got 'head:70000'"),
        ("redis://head:6379", "got 'redis://head:6379'; correct"),
        (" ", "got ' '"),
    ],
)
def test_an_address_of_another_kind_is_refused_at_once(address: str, said: str) -> None:
    with pytest.raises(UserError, match=f"RAY_ADDRESS: must be the address of a running Ray head, host:port.*{said}"):
        check_head(address, Patience(600))


def test_a_head_that_is_gone_is_waited_for_as_long_as_the_setting_says_and_the_user_hears_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, heard = [0.0], list[Any]()
    monkeypatch.setattr(head.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(head.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(UserError, match=rf"got {address}, where nothing listens; waited 7 s \(scaling.connect_seconds"):
        check_head(address, Patience(7, heard.append))
    assert now == [7.0]
    (note,) = heard
    assert isinstance(note, Note) and f"no Ray head answers at {address} yet (nothing listens); waiting" in note.text


def test_a_head_that_is_starting_is_waited_for(
    made_up: tuple[_MadeUpHead, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up[0].metadata = None
    monkeypatch.setattr(head.time, "sleep", lambda _: setattr(made_up[0], "metadata", dict(THIS)))
    check_head(made_up[1], Patience(600))


def test_the_wait_ends_when_its_user_wants_it_to() -> None:
    stop = Stop()
    stop.ask()
    with pytest.raises(KeyboardInterrupt):
        check_head("127.0.0.1:1", Patience(600, stop=stop))


def test_what_listens_and_is_no_head_is_told_from_one_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "_ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(UserError, match="where something listens that is no Ray head; start it or correct"):
            check_head(address, AT_ONCE)


def test_a_name_that_no_machine_has_is_said() -> None:
    with pytest.raises(UserError, match=r"where no machine has the name no-such-host\.invalid"):
        check_head("no-such-host.invalid:6379", AT_ONCE)


@pytest.mark.parametrize("other", [{"ray_version": "2.9.0"}, {"python_version": "3.9.1"}])
def test_a_head_of_other_versions_is_refused_with_both(other: dict[str, str], made_up: tuple[_MadeUpHead, str]) -> None:
    made_up[0].metadata = THIS | other
    theirs = "Ray {ray_version} on Python {python_version}".format(**(THIS | other))
    ours = "Ray {ray_version} on Python {python_version}".format(**THIS)
    with pytest.raises(UserError, match=f"must be a cluster of {ours}, as this.*, got {made_up[1]} of {theirs}"):
        check_head(made_up[1], AT_ONCE)


@pytest.mark.parametrize(
    ("mode", "header", "said"),
    [("disabled", None, "none was sent"), ("token", "Bearer wrong", "another one was sent")],
)
def test_a_head_that_wants_a_token_is_told_from_one_that_wants_another(
    mode: str, header: str | None, said: str, made_up: tuple[_MadeUpHead, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up[0].token = "secret"
    _sends(mode, header, monkeypatch)
    with pytest.raises(UserError, match=f"must be given its token, and {said}; set RAY_AUTH_MODE=token and RAY_AUTH"):
        check_head(made_up[1], Patience(600))
    _sends("token", "Bearer secret", monkeypatch)
    check_head(made_up[1], AT_ONCE)


def test_a_token_that_is_wanted_and_not_there_is_said(
    made_up: tuple[_MadeUpHead, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise ray.exceptions.AuthenticationError("no authentication token was found")

    monkeypatch.setattr(head, "init_grpc_channel", lambda *_: missing())
    with pytest.raises(UserError, match="must be given its token, and there is none here"):
        check_head(made_up[1], AT_ONCE)


def _sends(mode: str, header: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Ray's channel carry this token: its own loader remembers the first one of a process."""
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    monkeypatch.setattr(authentication_utils, "is_token_auth_enabled", lambda: header is not None)
    metadata = () if header is None else (("authorization", header),)
    monkeypatch.setattr(sent, "_get_authentication_metadata_tuple", lambda: metadata)


def test_a_machine_that_is_no_node_of_the_cluster_is_told_so(
    made_up: tuple[_MadeUpHead, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "find_node_ids", set)
    said = f"a cluster that this machine is a node of, got {made_up[1]}.*`ray start --address={made_up[1]}`"
    with pytest.raises(UserError, match=said):
        check_head(made_up[1], AT_ONCE)


def test_auto_where_no_ray_runs_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_: str) -> str:
        raise ConnectionError("Could not find any running Ray instance.\nSet RAY_ADDRESS")

    monkeypatch.setattr(services, "canonicalize_bootstrap_address_or_die", nothing)
    with pytest.raises(UserError, match="must find a Ray that runs on this machine, got auto: Could not find any runn"):
        check_head("auto", AT_ONCE)
