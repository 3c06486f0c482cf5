"""A figure: what was measured, its unit, and the promise beside it."""

from __future__ import annotations

from typing import Any

Figure = dict[str, Any]
"""name, value, unit, target, holds; the last two are None where nothing is promised."""


def told(name: str, value: float, unit: str = "") -> Figure:
    """A figure that nothing is promised about."""
    return _figure(name, value, unit, None, None)


def at_most(name: str, value: float, unit: str, target: float) -> Figure:
    """A figure that may not be larger."""
    return _figure(name, value, unit, target, value <= target)


def at_least(name: str, value: float, unit: str, target: float) -> Figure:
    """A figure that may not be smaller."""
    return _figure(name, value, unit, target, value >= target)


def exactly(name: str, value: float, unit: str, target: float) -> Figure:
    """A figure that may be no other."""
    return _figure(name, value, unit, target, value == target)


def _figure(name: str, value: float, unit: str, target: float | None, holds: bool | None) -> Figure:
    return {"name": name, "value": round(value, 4), "unit": unit, "target": target, "holds": holds}
