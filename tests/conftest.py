"""Fixtures for all tests."""

pytest_plugins = [
    "fixtures.postgres",
    "fixtures.engine",
    "fixtures.memories",
    "fixtures.dev",
    "fixtures.api",
    "fixtures.control_plane",
    "fixtures.kube",
    "fixtures.processes",
    "fixtures.chart",
    "fixtures.node",
]
