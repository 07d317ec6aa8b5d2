"""The fields of KubeRay's and Kubernetes' objects, as far as ``cluster/kuberay`` could use them.

KubeRay's: all fields of these types in its reference of the ``ray.io/v1`` resources, release 1.7.0
(``docs/reference/api.md`` of ray-project/kuberay, generated from the Go types of its CRDs). Kubernetes': those of the
core v1 API that a pod of ours needs, not all. A field leads to its type, or to a check of its value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Check = Callable[[Any], bool]
Type = str | Check


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(_text(item) for item in value)


def _map(value: Any) -> bool:
    return isinstance(value, dict) and all(_text(key) and isinstance(item, str) for key, item in value.items())


def _one_of(*values: str) -> Check:
    return lambda value: value in values


def _name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", value) is not None


def _quantities(value: Any) -> bool:
    return _map(value) and all(re.fullmatch(r"\d+(m|Mi|Gi|Ti)?", item) for item in value.values())


def _size(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\d+(Mi|Gi)", value) is not None


TYPES: dict[str, dict[str, Type]] = {
    "RayCluster": {"apiVersion": _one_of("ray.io/v1"), "kind": _text, "metadata": "Metadata", "spec": "RayClusterSpec"},
    "RayJob": {"apiVersion": _one_of("ray.io/v1"), "kind": _text, "metadata": "Metadata", "spec": "RayJobSpec"},
    "RayJobSpec": {
        "activeDeadlineSeconds": _count,
        "backoffLimit": _count,
        "clusterSelector": _map,
        "deletionStrategy": "DeletionStrategy",
        "entrypoint": _text,
        "entrypointNumCpus": _count,
        "entrypointNumGpus": _count,
        "entrypointResources": _text,
        "jobId": _text,
        "managedBy": _text,
        "metadata": _map,
        "preRunningDeadlineSeconds": _count,
        "rayClusterSpec": "RayClusterSpec",
        "runtimeEnvYAML": _text,
        "shutdownAfterJobFinishes": _flag,
        "submissionMode": _one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
        "submitterConfig": "SubmitterConfig",
        "submitterPodTemplate": "PodTemplate",
        "suspend": _flag,
        "ttlSecondsAfterFinished": _count,
    },
    "SubmitterConfig": {"backoffLimit": _count},
    "DeletionStrategy": {"deletionRules": "[]DeletionRule"},
    "RayClusterSpec": {
        "authOptions": "AuthOptions",
        "autoscalerOptions": "AutoscalerOptions",
        "enableInTreeAutoscaling": _flag,
        "headGroupSpec": "HeadGroupSpec",
        "headServiceAnnotations": _map,
        "managedBy": _text,
        "rayVersion": _text,
        "suspend": _flag,
        "workerGroupSpecs": "[]WorkerGroupSpec",
    },
    "AuthOptions": {"enableK8sTokenAuth": _flag, "mode": _one_of("disabled", "token"), "secretName": _name},
    "AutoscalerOptions": {
        "idleTimeoutSeconds": _count,
        "image": _text,
        "upscalingMode": _one_of("Default", "Aggressive", "Conservative"),
        "version": _one_of("v1", "v2"),
    },
    "HeadGroupSpec": {
        "enableIngress": _flag,
        "labels": _map,
        "rayStartParams": _map,
        "resources": _map,
        "serviceType": _one_of("ClusterIP", "NodePort", "LoadBalancer"),
        "template": "PodTemplate",
    },
    "WorkerGroupSpec": {
        "groupName": _name,
        "idleTimeoutSeconds": _count,
        "labels": _map,
        "maxReplicas": _count,
        "minReplicas": _count,
        "numOfHosts": _count,
        "priority": _count,
        "rayStartParams": _map,
        "replicas": _count,
        "resources": _map,
        "suspend": _flag,
        "template": "PodTemplate",
    },
    "Metadata": {"name": _name, "labels": _map, "namespace": _name},
    "PersistentVolumeClaim": {
        "apiVersion": _one_of("v1"),
        "kind": _text,
        "metadata": "Metadata",
        "spec": "PersistentVolumeClaimSpec",
    },
    "PersistentVolumeClaimSpec": {"accessModes": _texts, "resources": "Resources", "storageClassName": _name},
    "Pod": {"apiVersion": _one_of("v1"), "kind": _text, "metadata": "Metadata", "spec": "PodSpec"},
    "PodTemplate": {"metadata": "Metadata", "spec": "PodSpec"},
    "PodSpec": {
        "activeDeadlineSeconds": _count,
        "containers": "[]Container",
        "nodeSelector": _map,
        "restartPolicy": _one_of("Never", "OnFailure", "Always"),
        "securityContext": "PodSecurity",
        "terminationGracePeriodSeconds": _count,
        "tolerations": "[]Toleration",
        "volumes": "[]Volume",
    },
    "PodSecurity": {"fsGroup": _count, "runAsGroup": _count, "runAsNonRoot": _flag, "runAsUser": _count},
    "Toleration": {
        "effect": _one_of("NoSchedule", "NoExecute"),
        "key": _text,
        "operator": _one_of("Exists", "Equal"),
        "value": _text,
    },
    "Container": {
        "command": _texts,
        "env": "[]Variable",
        "image": _text,
        "name": _name,
        "ports": "[]Port",
        "resources": "Resources",
        "securityContext": "Security",
        "volumeMounts": "[]Mount",
    },
    "Variable": {"name": _text, "value": _text},
    "Port": {"containerPort": _count, "name": _name},
    "Resources": {"limits": _quantities, "requests": _quantities},
    "Security": {"allowPrivilegeEscalation": _flag, "capabilities": "Capabilities"},
    "Capabilities": {"drop": _texts},
    "Mount": {"mountPath": _text, "name": _name, "readOnly": _flag},
    "Volume": {"emptyDir": "EmptyDir", "name": _name, "persistentVolumeClaim": "Claim"},
    "EmptyDir": {"medium": _one_of("Memory"), "sizeLimit": _size},
    "Claim": {"claimName": _name, "readOnly": _flag},
}
NEEDED = {
    "RayCluster": {"apiVersion", "kind", "metadata", "spec"},
    "RayJob": {"apiVersion", "kind", "metadata", "spec"},
    "RayJobSpec": {"entrypoint", "rayClusterSpec"},
    "RayClusterSpec": {"headGroupSpec", "rayVersion"},
    "HeadGroupSpec": {"rayStartParams", "template"},
    "WorkerGroupSpec": {"groupName", "maxReplicas", "minReplicas", "rayStartParams", "template"},
    "Metadata": {"name"},
    "PodSpec": {"containers"},
    "Container": {"image", "name"},
    "Mount": {"mountPath", "name"},
    "Volume": {"name"},
    "Variable": {"name", "value"},
}


def problems(value: Any, kind: str, where: str = "") -> list[str]:
    """Return what Kubernetes would refuse, or drop without a word, in an object of this kind."""
    if kind.startswith("[]"):
        if not isinstance(value, list):
            return [f"{where}: must be a list"]
        found = (problems(item, kind.removeprefix("[]"), f"{where}[{n}]") for n, item in enumerate(value))
        return [problem for part in found for problem in part]
    if not isinstance(value, dict):
        return [f"{where}: must be a mapping"]
    lacking = [f"{where}.{key}: must be there" for key in sorted(NEEDED.get(kind, set()) - value.keys())]
    for key, item in value.items():
        field, place = TYPES[kind].get(key), f"{where}.{key}"
        if field is None:
            lacking.append(f"{place}: no field of {kind}")
        elif isinstance(field, str):
            lacking += problems(item, field, place)
        elif not field(item):
            lacking.append(f"{place}: wrong value {item!r}")
    return lacking
