"""A real Kubernetes API server for tests: etcd and kube-apiserver on loopback ports, without a container engine.

programs.py       finds kube-apiserver, etcd, kubectl and what a node needs, or builds them once into a cache
judges.py         finds or makes kube-score and checkov
guard.py          ends a program when the tests end, however they end
process.py        one guarded program: start, stop, freeze, its log
api.py            one HTTPS request to the API server
kubeconfig.py     kubeconfig files
servers.py        the two servers: start, faults, stop
control_plane.py  what a test does with them
"""

from cluster.harness.api import Reply
from cluster.harness.control_plane import ControlPlane
from cluster.harness.errors import ControlPlaneError, ProgramsMissingError
from cluster.harness.judges import Judges, find_judges
from cluster.harness.process import GO_SETTINGS
from cluster.harness.programs import (
    NodePrograms,
    Programs,
    cache_folder,
    cache_root,
    find_helm,
    find_node_programs,
    find_programs,
    version,
)

__all__ = [
    "GO_SETTINGS",
    "ControlPlane",
    "ControlPlaneError",
    "Judges",
    "NodePrograms",
    "Programs",
    "ProgramsMissingError",
    "Reply",
    "cache_folder",
    "cache_root",
    "find_helm",
    "find_judges",
    "find_node_programs",
    "find_programs",
    "version",
]
