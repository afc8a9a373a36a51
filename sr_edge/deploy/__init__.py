"""Deployment: turns a network and images into a bundle that is tested, timed, and recommends what to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sr_edge.lazy_face import lazy_face

if TYPE_CHECKING:
    from sr_edge.bench.recommendation import Recommendation
    from sr_edge.deploy.network import DeployReport, deploy_network
    from sr_edge.deploy.plan import DeployPlan

__all__ = ["DeployPlan", "DeployReport", "Recommendation", "deploy_network"]

_HOMES = {
    "DeployPlan": "sr_edge.deploy.plan",
    "DeployReport": "sr_edge.deploy.network",
    "Recommendation": "sr_edge.bench.recommendation",
    "deploy_network": "sr_edge.deploy.network",
}

__getattr__, __dir__ = lazy_face(__name__, _HOMES)
