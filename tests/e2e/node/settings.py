"""Configuration of the programs of a node, and how each is started."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from cluster.harness import NodePrograms
from e2e.node.certificates import Authority, Pair
from e2e.node.layout import (
    API_PORT,
    API_SERVICE,
    DNS_SERVICE,
    DOMAIN,
    NODE_ADDRESS,
    NODE_NAME,
    POD_RANGE,
    SERVICE_RANGE,
    Layout,
)

PAUSE_IMAGE = "memory-node/pause:1"
DNS_IMAGE = "memory-node/coredns:1"
ETCD = "http://127.0.0.1:2379"
API = f"https://127.0.0.1:{API_PORT}"


def write_settings(layout: Layout, programs: NodePrograms, environment: Mapping[str, str]) -> None:
    """Write everything that the first process and its programs read."""
    authority = Authority(layout.keys)
    admin = authority.client("admin", "admin", "system:masters")
    authority.kubeconfig(layout.kubeconfig, admin, API)
    for name, user, group in (
        ("controller-manager", "system:kube-controller-manager", ""),
        ("scheduler", "system:kube-scheduler", ""),
        ("kubelet", f"system:node:{NODE_NAME}", "system:nodes"),
        ("proxy", "system:kube-proxy", ""),
    ):
        authority.kubeconfig(layout.keys / f"{name}.conf", authority.client(name, user, group), API)
    _write_audit(layout)
    _write_containerd(layout, programs)
    _write_network(layout)
    _write_kubelet(layout, authority)
    _write_proxy(layout)
    plan = {
        "name": NODE_NAME,
        "address": NODE_ADDRESS,
        "environment": dict(environment),
        "mounts": [
            [str(layout.folder / "kubelet"), "/var/lib/kubelet"],
            [str(layout.folder / "cni"), "/var/lib/cni"],
            [str(layout.folder / "container-logs"), "/var/log/containers"],
        ],
        "ready": {
            "url": f"{API}/readyz",
            "authority": str(authority.pair.certificate),
            "certificate": str(admin.certificate),
            "key": str(admin.key),
        },
        "before": _logged(layout, _before(layout, programs, authority)),
        "after": _logged(layout, _after(layout, programs, authority.pair)),
    }
    layout.plan.write_text(json.dumps(plan, indent=1))


def _logged(layout: Layout, commands: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "command": command, "log": str(layout.logs / f"{name}.log")}
        for name, command in commands.items()
    ]


def _before(layout: Layout, programs: NodePrograms, authority: Authority) -> dict[str, list[str]]:
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}"]
    serving = authority.server("apiserver", "kube-apiserver", [*names, API_SERVICE, NODE_ADDRESS, "127.0.0.1"])
    to_kubelet = authority.client("apiserver-kubelet", "kube-apiserver-kubelet", "system:masters")
    tokens = authority.client("tokens", "tokens").key
    return {
        "containerd": ["containerd", "--config", str(layout.settings / "containerd.toml")],
        "etcd": [
            str(programs.etcd),
            *("--data-dir", str(layout.folder / "etcd"), "--unsafe-no-fsync", "--log-level", "warn"),
            *("--listen-client-urls", ETCD, "--advertise-client-urls", ETCD),
            *("--listen-peer-urls", "http://127.0.0.1:2380"),
        ],
        "apiserver": [
            str(programs.kube_apiserver),
            f"--etcd-servers={ETCD}",
            "--bind-address=0.0.0.0",
            f"--secure-port={API_PORT}",
            f"--advertise-address={NODE_ADDRESS}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={authority.pair.certificate}",
            f"--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}",
            f"--service-account-key-file={tokens}",
            f"--service-account-signing-key-file={tokens}",
            f"--kubelet-certificate-authority={authority.pair.certificate}",
            f"--kubelet-client-certificate={to_kubelet.certificate}",
            f"--kubelet-client-key={to_kubelet.key}",
            "--kubelet-preferred-address-types=InternalIP",  # the name of the node is in no DNS
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--profiling=false",
            f"--audit-policy-file={layout.settings / 'audit.yaml'}",
            f"--audit-log-path={layout.audit}",
        ],
    }


def _after(layout: Layout, programs: NodePrograms, authority: Pair) -> dict[str, list[str]]:
    keys = layout.keys

    def own(name: str) -> list[str]:
        path = keys / f"{name}.conf"
        return [f"--{flag}={path}" for flag in ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")]

    return {
        "controller-manager": [
            str(programs.controller_manager),
            *own("controller-manager"),
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={keys / 'tokens.key'}",
            f"--root-ca-file={authority.certificate}",
            f"--cluster-signing-cert-file={authority.certificate}",
            f"--cluster-signing-key-file={authority.key}",
            "--bind-address=127.0.0.1",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            f"--cluster-cidr={POD_RANGE}",
        ],
        "scheduler": [str(programs.scheduler), *own("scheduler"), "--leader-elect=false", "--bind-address=127.0.0.1"],
        "kubelet": [
            str(programs.kubelet),
            f"--config={layout.settings / 'kubelet.yaml'}",
            f"--kubeconfig={keys / 'kubelet.conf'}",
            f"--hostname-override={NODE_NAME}",
            f"--node-ip={NODE_ADDRESS}",
            f"--cert-dir={keys / 'kubelet'}",
        ],
        "proxy": [str(programs.proxy), f"--config={layout.settings / 'proxy.yaml'}"],
    }


def _write_audit(layout: Layout) -> None:
    """Of all requests, those of pods for Secrets are kept: who, what, when."""
    pods = {"level": "Metadata", "userGroups": ["system:serviceaccounts"], "resources": [{"resources": ["secrets"]}]}
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [pods, {"level": "None"}],
    }
    (layout.settings / "audit.yaml").write_text(yaml.safe_dump(policy))


def _write_containerd(layout: Layout, programs: NodePrograms) -> None:
    # In the version of the file that containerd 1.6 (Debian 12) and 1.7 read.
    (layout.settings / "containerd.toml").write_text(f"""\
version = 2
root = "{layout.folder}/containerd"
state = "/run/containerd"
[grpc]
  address = "{layout.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{programs.network}"
    conf_dir = "{layout.network}"
""")


def _write_network(layout: Layout) -> None:
    addresses = {"type": "host-local", "dataDir": f"{layout.folder}/ipam", "ranges": [[{"subnet": POD_RANGE}]]}
    bridge = {"type": "bridge", "bridge": "pods0", "isGateway": True, "isDefaultGateway": True, "hairpinMode": True}
    network = {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge | {"ipam": addresses}]}
    (layout.network / "10-pods.conflist").write_text(json.dumps(network))


def _write_kubelet(layout: Layout, authority: Authority) -> None:
    serving = authority.server("kubelet-server", f"system:node:{NODE_NAME}", [NODE_NAME, NODE_ADDRESS], "system:nodes")
    (layout.settings / "resolv.conf").touch()
    settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority.pair.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(serving.certificate),
        "tlsPrivateKeyFile": str(serving.key),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.cgroup}",
        "cgroupsPerQOS": True,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{layout.socket}",
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": DOMAIN,
        "resolvConf": str(layout.settings / "resolv.conf"),
        "podLogsDir": str(layout.folder / "pod-logs"),
        # A changed Secret is in its volume after this long, and not after a minute.
        "syncFrequency": "5s",
        "configMapAndSecretChangeDetectionStrategy": "Watch",
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
        # Nobody could bring back an image that was collected.
        "imageMaximumGCAge": "0s",
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }
    (layout.settings / "kubelet.yaml").write_text(yaml.safe_dump(settings))


def _write_proxy(layout: Layout) -> None:
    settings = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(layout.keys / "proxy.conf")},
        "clusterCIDR": POD_RANGE,
        "hostnameOverride": NODE_NAME,
        "nodePortAddresses": ["primary"],
        # These limits are the machine's, and not ours to set.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "nftables": {"minSyncPeriod": "50ms"},
    }
    (layout.settings / "proxy.yaml").write_text(yaml.safe_dump(settings))
