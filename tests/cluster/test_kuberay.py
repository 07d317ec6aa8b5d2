"""The Kubernetes manifests: fields, limits, secrets, and that their variants do not drift apart."""

from __future__ import annotations

import copy
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from raydistill.sweeps.file import load_sweep
from tests.cluster.kuberay_fields import problems
from tests.small import REPOSITORY

FOLDER = REPOSITORY / "cluster" / "kuberay"
MANIFESTS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))}
WITH_A_CLUSTER = sorted(name for name in MANIFESTS if name.startswith("ray"))
each_cluster = pytest.mark.parametrize("name", WITH_A_CLUSTER)


def _cluster(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = MANIFESTS[name]["spec"]
    return spec.get("rayClusterSpec", spec)


def _pods(name: str) -> list[dict[str, Any]]:
    """Return the specs of all pods of a manifest."""
    if MANIFESTS[name]["kind"] == "Pod":
        return [MANIFESTS[name]["spec"]]
    if name not in WITH_A_CLUSTER:
        return []
    groups = [_cluster(name)["headGroupSpec"], *_cluster(name)["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


PODS = [pytest.param(pod, id=f"{name}-{number}") for name in MANIFESTS for number, pod in enumerate(_pods(name))]


def test_that_the_manifests_are_there() -> None:
    assert WITH_A_CLUSTER == ["raycluster.cpu", "raycluster.gpu", "rayjob.cpu", "rayjob.gpu"]
    assert set(MANIFESTS) == {*WITH_A_CLUSTER, "shared-volume", "shell"}
    assert len(PODS) == 9


@pytest.mark.parametrize("name", MANIFESTS)
def test_that_every_field_is_one_of_its_kind(name: str) -> None:
    assert problems(MANIFESTS[name], MANIFESTS[name]["kind"], name) == []


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("spec", "rayClusterspec"), {}, "m.spec.rayClusterspec: no field of RayJobSpec"),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "tokens", "wrong value 'tokens'"),
        (("spec", "rayClusterSpec", "workerGroupSpecs"), {}, "must be a list"),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams"), {"num-cpus": 0}, "wrong value"),
        (("spec", "entrypoint"), None, "wrong value None"),
        (("metadata",), {}, "m.metadata.name: must be there"),
    ],
)
def test_that_a_wrong_field_is_found(path: tuple[str, ...], value: object, problem: str) -> None:
    manifest = copy.deepcopy(MANIFESTS["rayjob.cpu"])
    part = manifest
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    (found,) = problems(manifest, "RayJob", "m")
    assert problem in found


@each_cluster
def test_that_a_token_from_a_secret_is_asked_for_and_only_the_cluster_sees_the_head(name: str) -> None:
    assert _cluster(name)["authOptions"] == {"mode": "token", "secretName": "raydistill-token"}
    assert _cluster(name)["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert not _cluster(name)["headGroupSpec"].get("enableIngress")


@each_cluster
def test_that_a_cluster_grows_from_nothing_to_a_limit_and_its_head_does_not_train(name: str) -> None:
    cluster = _cluster(name)
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in cluster["workerGroupSpecs"]:
        assert 0 == group["minReplicas"] < group["maxReplicas"] <= 10


@pytest.mark.parametrize("pod", PODS)
def test_that_no_pod_is_root_and_each_sees_the_shared_volume(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    claim = MANIFESTS["shared-volume"]
    assert mounts["/mnt/shared"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


@each_cluster
def test_that_ray_pods_have_shared_memory_and_time_to_drain(name: str) -> None:
    for pod in _pods(name):
        (container,) = pod["containers"]
        names = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes[names["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
        assert pod["terminationGracePeriodSeconds"] >= 60
        assert pod["restartPolicy"] == "Never"
        assert container["resources"]["requests"] == container["resources"]["limits"]


def test_that_a_job_ends_its_cluster_and_cannot_run_for_ever() -> None:
    for name in ("rayjob.cpu", "rayjob.gpu"):
        spec = MANIFESTS[name]["spec"]
        assert spec["shutdownAfterJobFinishes"] is True
        assert 0 < spec["activeDeadlineSeconds"] <= 86400
        assert spec["backoffLimit"] <= 1


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_that_a_job_brings_the_cluster_that_also_stays(kind: str) -> None:
    assert _cluster(f"rayjob.{kind}") == _cluster(f"raycluster.{kind}")


@pytest.mark.parametrize("manifest", ["rayjob", "raycluster"])
def test_that_gpus_are_all_that_the_variants_differ_in(manifest: str) -> None:
    with_gpus = copy.deepcopy(_cluster(f"{manifest}.gpu"))
    (group,) = with_gpus["workerGroupSpecs"]
    group["groupName"] = "cpu"
    assert group["template"]["spec"].pop("tolerations")
    for quantities in group["template"]["spec"]["containers"][0]["resources"].values():
        assert quantities.pop("nvidia.com/gpu") == "1"
    assert with_gpus == _cluster(f"{manifest}.cpu")


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_that_the_jobs_command_is_a_sweep_on_the_shared_volume(kind: str) -> None:
    program, _, module, *arguments = shlex.split(MANIFESTS[f"rayjob.{kind}"]["spec"]["entrypoint"])
    assert (program, module) == ("python", "raydistill.tune")
    (sweep, *overrides), (_, output) = arguments[:-2], arguments[-2:]
    in_the_image = Path("/home/ray/raydistill")
    loaded = load_sweep(str(REPOSITORY / Path(sweep).relative_to(in_the_image)), overrides)
    assert loaded.sweep.resources.gpus_per_worker == (1 if kind == "gpu" else "auto")
    assert Path(output).is_relative_to("/mnt/shared")
