"""Where things of a node are, and its addresses. Everything inside is the same for each node: each has a network of
its own. What is outside carries the name of its folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

NODE_NAME = "node1"
NODE_ADDRESS = "10.77.0.1"
SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
POD_RANGE = "10.244.0.0/24"
API_PORT = 6443
DOMAIN = "cluster.local"
VOLUMES = 12
"""How many volumes the storage class has to give."""
VOLUME_SIZE = "10Gi"


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below the folder of one node."""

    folder: Path

    @property
    def cgroup(self) -> str:
        """Name of the cgroup of all pods, in each hierarchy."""
        return f"memory-{self.folder.name}"

    @property
    def keys(self) -> Path:
        """Certificates, keys, kubeconfigs."""
        return self.folder / "keys"

    @property
    def logs(self) -> Path:
        """What the programs say."""
        return self.folder / "log"

    @property
    def audit(self) -> Path:
        """Who asked the API server for which Secret, one JSON object a line."""
        return self.logs / "audit.log"

    @property
    def settings(self) -> Path:
        """Configuration of the programs."""
        return self.folder / "etc"

    @property
    def network(self) -> Path:
        """Configuration of the pod network."""
        return self.folder / "net.d"

    @property
    def socket(self) -> Path:
        """containerd's."""
        return self.folder / "containerd.sock"

    @property
    def volumes(self) -> Path:
        """A folder for each volume."""
        return self.folder / "volumes"

    @property
    def plan(self) -> Path:
        """What the first process inside is to do, as JSON."""
        return self.folder / "plan.json"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, for use with the network of the node."""
        return self.folder / "admin.conf"

    def make(self) -> None:
        """Make the folders."""
        for path in (self.keys, self.logs, self.settings, self.network, self.volumes):
            path.mkdir(parents=True)
        for name in ("kubelet", "etcd", "cni", "ipam", "pod-logs", "container-logs"):
            (self.folder / name).mkdir()
        for number in range(VOLUMES):
            (self.volumes / str(number)).mkdir()
