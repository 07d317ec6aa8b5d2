"""Ray's node on the driver's machine: noticed when it is lost, since calls to Ray would then wait for ever."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from raydistill.runs.stopping import Stop

_LOOK_SECONDS = 5


@contextlib.contextmanager
def node_watched(stop: Stop) -> Iterator[None]:
    """End what the main thread does, with a sentence, once the node is lost that this process is connected to."""
    import ray  # not before ray_session has set its environment

    own, done = ray.get_runtime_context().get_node_id(), threading.Event()

    def watch() -> None:
        while not done.wait(_LOOK_SECONDS):
            if _lost(own):
                stop.fail(
                    "Ray was lost on this machine: its process (raylet) was killed, by the system where memory runs "
                    "out, or ended; the same command goes on after the last checkpoint"
                )
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _lost(node: str) -> bool:
    """Return whether Ray's head says that the node is dead."""
    import ray

    with contextlib.suppress(ray.exceptions.RayError, RuntimeError):  # the head is busy, or going down itself
        return any(entry["NodeID"] == node and not entry["Alive"] for entry in ray.nodes())
    return False
