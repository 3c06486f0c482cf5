"""kubeconfig files."""

from __future__ import annotations

import json
import os
from pathlib import Path

from cluster.harness.api import ApiAddress


def write_kubeconfig(path: Path, address: ApiAddress, token: str, namespace: str = "default") -> Path:
    """Write a kubeconfig (mode 0600) whose only context is `test`; returns `path`."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [
            {
                "name": "test",
                "cluster": {"server": address.url, "certificate-authority": str(address.certificate)},
            }
        ],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
    }
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(config, file, indent=1)  # JSON is YAML
    return path
