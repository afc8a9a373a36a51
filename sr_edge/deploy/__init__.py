"""The main job: a network and pictures in, a bundle out that was tested, timed, and says what to run."""

from sr_edge.deploy.network import DeployReport, deploy_network
from sr_edge.deploy.plan import DeployPlan

__all__ = ["DeployPlan", "DeployReport", "deploy_network"]
