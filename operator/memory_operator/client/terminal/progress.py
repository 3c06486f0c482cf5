"""Progress bars: on a terminal, and nowhere else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from memory_operator.client.terminal.console import Screen, one_line, share

REMARK_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Bar:
    """What one bar shows."""

    fraction: float
    """0…1."""
    remark: str


@contextlib.contextmanager
def bars(screen: Screen) -> Iterator[Callable[[Mapping[str, Bar]], None]]:
    """What is yielded shows bars by name; one that is no longer named goes away, and all of them do at the end."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[share]}"),
        TextColumn("{task.fields[remark]}"),
        console=screen.err,
        transient=True,
        disable=not screen.may_animate,
    )
    tasks: dict[str, TaskID] = {}

    def show(wanted: Mapping[str, Bar]) -> None:
        for name, bar in wanted.items():
            if name not in tasks:
                tasks[name] = progress.add_task(one_line(name), total=1.0, share="", remark="")
            remark = one_line(bar.remark, REMARK_CHARACTERS)
            progress.update(tasks[name], completed=bar.fraction, share=share(bar.fraction), remark=remark)
        for name in tasks.keys() - wanted.keys():
            progress.remove_task(tasks.pop(name))

    with progress:
        yield show
