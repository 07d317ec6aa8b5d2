"""The Ray head that RAY_ADDRESS names, asked what it is: Ray itself would try to join it for a quarter of an hour."""

from __future__ import annotations

import json
import os
import platform
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import ray
from ray._private import services
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray._private.grpc_utils import init_grpc_channel
from ray._private.utils import check_version_info
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

from raydistill.errors import UserError, first_line
from raydistill.runs.events import Listener, Note
from raydistill.runs.stopping import Stop

_POLL_SECONDS = 1.0
_ANSWER_SECONDS = 5.0  # of one question
_SAID_AFTER = 3.0
_WANTED = "RAY_ADDRESS: must be the address of a running Ray head, host:port (its port is 6379 unless it was given one)"
_ADVICE = "start it or correct RAY_ADDRESS; without RAY_ADDRESS this machine alone is used"
_HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9a-fA-F:.%\w]+\]|[^\s\[\]:/]+):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True)
class Patience:
    """How a head is waited for that may just be starting."""

    seconds: int = 30
    """``scaling.connect_seconds``."""
    listener: Listener = lambda _: None
    """Hears that it is waited for."""
    stop: Stop = field(default_factory=Stop)
    """Ends the wait."""

    def until(self, look: Callable[[], str], waiting_for: str) -> str:
        """Call ``look`` until it says that nothing lacks, or the time is over; return what it said last."""
        started, said = time.monotonic(), False
        while lacking := look():
            waited = time.monotonic() - started
            if self.stop.wanted:
                raise self.stop.interruption()
            if waited >= self.seconds:
                return f"{lacking}; waited {self.seconds} s (scaling.connect_seconds)" if self.seconds else lacking
            if waited >= _SAID_AFTER and not said:
                text = f"RAY_ADDRESS: {waiting_for} ({lacking}); waiting up to {self.seconds} s"
                self.listener(Note(f"{text} (scaling.connect_seconds)", warning=True))
                said = True
            time.sleep(min(_POLL_SECONDS, max(0.0, self.seconds - waited)))
        return ""


def check_head(address: str, patience: Patience) -> None:
    """Return once the head at ``address`` answers, is of this Ray and Python, and has a node on this machine.

    Raises:
        UserError: saying which of these is not so.
    """
    place = _place(address)
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)  # as Ray does when it joins a cluster
    head = _Head(place)
    lacking = patience.until(head.lacking, f"no Ray head answers at {place} yet")
    if lacking:
        raise UserError(f"{_WANTED}, got {address}, where {lacking}; {_ADVICE}")
    _compare_versions(address, head.metadata)
    if patience.until(_no_node_here, f"no process of the Ray cluster at {place} is found on this machine yet"):
        raise not_a_node(address)


def not_a_node(address: str) -> UserError:
    """Return what is said where this machine has no part in the cluster."""
    return UserError(
        f"RAY_ADDRESS: must be a cluster that this machine is a node of, got {address} and no process of it here; run "
        f"`ray start --address={address}` here before, or hand the command to the cluster with `ray job submit`"
    )


def _place(address: str) -> str:
    """Return host and port of an address as users give it."""
    scheme = address.partition("://")[0].lower() if "://" in address else ""
    if scheme in ("http", "https"):
        raise UserError(
            f"{_WANTED}, got {address}, that of its dashboard, which takes jobs: unset RAY_ADDRESS on a node of the "
            f"cluster or name its head, or hand the command over: RAY_ADDRESS={address} ray job submit -- python -m ..."
        )
    if scheme == "ray":
        raise UserError(
            f"{_WANTED}, got {address}, that of Ray Client, which cannot run this: run the command on a node of the "
            "cluster, or hand it over with `ray job submit`"
        )
    if address == "auto":
        try:
            return str(services.canonicalize_bootstrap_address_or_die("auto"))
        except ConnectionError as error:
            why = first_line(error)[:200]
            raise UserError(
                f"RAY_ADDRESS: must find a Ray that runs on this machine, got auto: {why}; {_ADVICE}"
            ) from error
    found = _HOST_AND_PORT.fullmatch(address)
    if not found or not 0 < int(found["port"]) < 2**16:
        raise UserError(f"{_WANTED}, got {address!r}; correct it, or unset it to use this machine alone")
    return address


@dataclass
class _Head:
    """What answers at a place."""

    place: str
    metadata: dict[str, Any] = field(default_factory=dict)
    """``ray_version`` and ``python_version``, once it has answered."""

    def lacking(self) -> str:
        """Ask for its versions; return what is not as it must be and may become so.

        Raises:
            UserError: when it refuses to answer this user.
        """
        request = gcs_service_pb2.InternalKVGetRequest(namespace=b"cluster", key=b"CLUSTER_METADATA")
        try:
            with init_grpc_channel(self.place, [("grpc.enable_http_proxy", 0)]) as channel:
                stub = gcs_service_pb2_grpc.InternalKVGcsServiceStub(channel)
                answer = stub.InternalKVGet(request, timeout=_ANSWER_SECONDS)
            self.metadata = json.loads(answer.value) if answer.value else {}
        except ray.exceptions.AuthenticationError as error:  # a token is wanted by RAY_AUTH_MODE, and there is none
            raise _refused(self.place, "there is none here") from error
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                tokens = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
                raise _refused(self.place, "another one was sent" if tokens else "none was sent") from error
            return _why_no_answer(self.place, error)
        except ValueError:
            return "something answers that is no Ray head"
        return "" if self.metadata else "a Ray head is still starting"


def _refused(place: str, why: str) -> UserError:
    return UserError(
        f"RAY_ADDRESS: the Ray head at {place} must be given its token, and {why}; set RAY_AUTH_MODE=token and "
        "RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH (by default ~/.ray/auth_token; `ray get-auth-token` prints it there)"
    )


def _why_no_answer(place: str, error: grpc.RpcError) -> str:
    """Say in a few words what a call to a place has met: gRPC tells of every address it tried."""
    details = str(error.details()).lower()
    if "resol" in details or "lookup" in details:
        return f"no machine has the name {place.rpartition(':')[0]}"
    if "refused" in details:
        return "nothing listens"
    if _listens(place):
        return "something listens that is no Ray head"
    return "no machine answers"


def _listens(place: str) -> bool:
    host, _, port = place.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS):
            return True
    except OSError:
        return False


def _compare_versions(address: str, metadata: Mapping[str, Any]) -> None:
    """Raise unless the head is of this Ray and Python, as far as Ray wants them alike."""
    try:
        check_version_info(dict(metadata), "this process")
    except RuntimeError as error:
        theirs = f"Ray {metadata['ray_version']} on Python {metadata['python_version']}"
        raise UserError(
            f"RAY_ADDRESS: must be a cluster of Ray {ray.__version__} on Python {platform.python_version()}, as this "
            f"command has them, got {address} of {theirs}; install the same versions on both sides"
        ) from error


def _no_node_here() -> str:
    return "" if services.find_node_ids() else "no raylet runs"
