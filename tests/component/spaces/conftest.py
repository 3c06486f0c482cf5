"""The two vendors that a store moves between."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vendor.stub import StubVendor


@pytest.fixture
def old() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


@pytest.fixture
def new() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub
