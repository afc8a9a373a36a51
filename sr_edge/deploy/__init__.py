"""Deployment: turns a network and images into a bundle that is tested, timed, and recommends what to run."""

from sr_edge.deploy.network import DeployReport, deploy_network
from sr_edge.deploy.plan import DeployPlan
from sr_edge.deploy.recommendation import Recommendation

__all__ = ["DeployPlan", "DeployReport", "Recommendation", "deploy_network"]
