"""The files of ``ray up``, against Ray's own schema and what its launcher does with them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.small import REPOSITORY

CLOUDS = ("aws", "gcp")
FILES = {name: (REPOSITORY / "cluster" / f"{name}.yaml").read_text() for name in CLOUDS}
each_cloud = pytest.mark.parametrize("name", CLOUDS)


def _config(name: str) -> dict[str, Any]:
    config: dict[str, Any] = prepare_config(yaml.safe_load(FILES[name]))
    return config


def _workers(config: dict[str, Any]) -> dict[str, Any]:
    return {kind: node for kind, node in config["available_node_types"].items() if kind != config["head_node_type"]}


@each_cloud
def test_that_ray_takes_the_file(name: str) -> None:
    validate_config(_config(name))


@each_cloud
def test_that_ray_would_refuse_a_misspelt_key(name: str) -> None:
    with pytest.raises(ValidationError, match="idle_timeout_minute"):
        validate_config(_config(name) | {"idle_timeout_minute": 1})


@each_cloud
def test_that_workers_come_and_go_and_are_limited(name: str) -> None:
    config = _config(name)
    assert set(_workers(config)) == {"gpu", "cpu"}
    assert config["max_workers"] <= 10
    assert 0 < config["idle_timeout_minutes"] <= 30
    assert config["provider"]["cache_stopped_nodes"] is False  # stopped machines' disks are paid for
    for node in _workers(config).values():
        assert 0 == node["min_workers"] < node["max_workers"] <= config["max_workers"]


@each_cloud
def test_that_only_gpu_workers_have_gpus_and_the_head_trains_nothing(name: str) -> None:
    config = _config(name)
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0}
    assert {kind: node["resources"].get("GPU", 0) for kind, node in _workers(config).items()} == {"gpu": 1, "cpu": 0}


def test_that_workers_are_spot_machines_and_heads_are_not() -> None:
    aws, gcp = (_config(name)["available_node_types"] for name in CLOUDS)
    spot = {kind: node["node_config"].get("InstanceMarketOptions") for kind, node in aws.items()}
    assert spot == {"head": None, "gpu": {"MarketType": "spot"}, "cpu": {"MarketType": "spot"}}
    preemptible = {kind: node["node_config"].get("scheduling", {}).get("preemptible") for kind, node in gcp.items()}
    assert preemptible == {"head": None, "gpu": True, "cpu": True}


def test_that_every_machine_of_aws_is_in_the_users_security_group_with_its_own_image() -> None:
    for node in _config("aws")["available_node_types"].values():
        assert node["node_config"]["SecurityGroupIds"] == ["sg-" + "0" * 17]
        assert node["node_config"]["ImageId"] == "ami-" + "0" * 17


@each_cloud
def test_that_the_token_goes_over_ssh_and_the_dashboard_stays_on_the_head(name: str) -> None:
    config = _config(name)
    assert config["file_mounts"] == {"/home/ray/.ray/auth_token": "~/.ray/auth_token"}
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    (start,) = (line for line in config["head_start_ray_commands"] if "ray start" in line)
    assert "--dashboard-host=127.0.0.1" in start
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start
    (join,) = (line for line in config["worker_start_ray_commands"] if "ray start" in line)
    port = re.search(r"--port=(\d+)", start)
    assert port is not None
    assert join == f"ray start --address=$RAY_HEAD_IP:{port[1]}"


@each_cloud
def test_that_the_shared_folder_is_mounted_before_containers_see_it(name: str) -> None:
    config = _config(name)
    options = config["docker"]["run_options"]
    assert {"--volume /mnt/shared:/mnt/shared", "--env TORCH_HOME=/mnt/shared/torch"} <= set(options)
    mounts = [line for line in config["initialization_commands"] if "mount -t nfs" in line]
    assert len(mounts) == 1
    assert mounts[0].startswith("mountpoint -q /mnt/shared || sudo mount")
    assert mounts[0].endswith(" /mnt/shared")
