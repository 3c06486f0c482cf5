"""The sample Provider: a model that ships inside a Python package and needs neither network nor key."""

from __future__ import annotations

from pathlib import Path

from memory_operator.dev.folder import prepare_folder
from memory_operator.dev.manifests.scan import is_manifest
from memory_operator.errors import ConfigurationError

SAMPLE_NAME = "memory-embeddings.yaml"

SAMPLE_PROVIDER = """\
# The embedding model of your memories. Saving this file is `kubectl apply`; deleting it is `kubectl delete`.
# Try another dimension (256, 128 or 64): the change is held until you consent to it.
apiVersion: omnia.altairalabs.ai/v1alpha1
kind: Provider
metadata:
  name: memory-embeddings
  namespace: default
spec:
  role: embedding
  type: local
  model: wordllama
  embedding:
    dimensions: 256
"""


def write_sample_provider(folder: Path) -> Path | None:
    """Write the sample's manifest unless the folder has a manifest already; its path where it was written.

    The folder is made when it is missing. Raises ConfigurationError when it cannot be written.
    """
    real = prepare_folder(folder, option="--providers")
    if any(is_manifest(path.name) for path in real.iterdir()):
        return None
    path = real / SAMPLE_NAME
    try:
        path.write_text(SAMPLE_PROVIDER)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}", hint="give another folder with --providers"
        ) from error
    return path
