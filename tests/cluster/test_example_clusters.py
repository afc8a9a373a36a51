"""The examples of clusters have the form that Ray's launcher and KubeRay require."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "cluster"


def test_ray_accepts_the_cluster_on_aws() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    ray = find_spec("ray")
    if ray is None or ray.origin is None:
        pytest.skip("needs ray")
    schema = json.loads((Path(ray.origin).parent / "autoscaler" / "ray-schema.json").read_text(encoding="utf-8"))
    cluster = yaml.safe_load((EXAMPLES / "aws.yaml").read_text(encoding="utf-8"))

    jsonschema.validate(cluster, schema)

    assert cluster["provider"]["use_internal_ips"], "Ray has no authentication"
    assert cluster["head_node_type"] in cluster["available_node_types"]


def test_the_kubernetes_job_requests_what_it_is_limited_to() -> None:
    job = yaml.safe_load((EXAMPLES / "kuberay.yaml").read_text(encoding="utf-8"))
    cluster = job["spec"]["rayClusterSpec"]

    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]

    for group in groups:
        for container in group["template"]["spec"]["containers"]:
            resources = container["resources"]
            assert resources["limits"] == resources["requests"]
