"""One Ray for all tests here that are not about starting one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.nodes import Cluster, started


@pytest.fixture(scope="package")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Ray of four CPUs without a dashboard."""
    with started(tmp_path_factory.mktemp("head"), 4) as it:
        yield it
