"""Prints what an image of ours has installed, as CycloneDX: `python sbom.py NAME`, with the image's own Python."""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import Distribution, distributions
from typing import Any


def component(found: Distribution) -> dict[str, Any]:
    """One installed distribution."""
    name = found.metadata["Name"]
    package = name.lower().replace("_", "-").replace(".", "-")
    described: dict[str, Any] = {
        "type": "library",
        "bom-ref": f"{package}@{found.version}",
        "name": name,
        "version": found.version,
        "purl": f"pkg:pypi/{package}@{found.version}",
    }
    expression = found.metadata.get("License-Expression")
    if expression:
        described["licenses"] = [{"expression": expression}]
    return described


def bill_of_materials(name: str) -> dict[str, Any]:
    """Everything that this Python can import, and the Python itself; the same for the same image."""
    components = sorted((component(found) for found in distributions()), key=lambda each: str(each["bom-ref"]))
    version = platform.python_version()
    python = {"type": "platform", "bom-ref": f"python@{version}", "name": "python", "version": version}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": f"memory-{name}"}},
        "components": [python, *components],
    }


if __name__ == "__main__":
    json.dump(bill_of_materials(sys.argv[1]), sys.stdout, indent=1)
