"""Progress bars: on a terminal, and nowhere else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memory_operator.client.terminal.console import Screen
from memory_operator.client.terminal.format import one_line, share

if TYPE_CHECKING:
    from rich.progress import TaskID

REMARK_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Bar:
    """What one bar shows."""

    fraction: float | None
    """0…1; None where nobody knows the whole."""
    remark: str


@contextlib.contextmanager
def bars(screen: Screen) -> Iterator[Callable[[Mapping[str, Bar]], None]]:
    """What is yielded shows bars by name; one that is no longer named goes away, and all of them do at the end."""
    if not screen.may_animate:
        yield lambda _wanted: None
        return
    # Rich is imported only where a bar is shown: it takes longer to load than most commands to run.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[share]}"),
        TextColumn("{task.fields[remark]}"),
        console=Console(stderr=True, highlight=False, markup=False, emoji=False),
        transient=True,
    )
    tasks: dict[str, TaskID] = {}

    def show(wanted: Mapping[str, Bar]) -> None:
        for name, bar in wanted.items():
            if name not in tasks:
                tasks[name] = progress.add_task(one_line(name), total=1.0, share="", remark="")
            remark = one_line(bar.remark, REMARK_CHARACTERS)
            known = (
                {"share": "", "total": None} if bar.fraction is None else {"share": share(bar.fraction), "total": 1.0}
            )
            progress.update(tasks[name], completed=bar.fraction or 0.0, remark=remark, **known)
        for name in tasks.keys() - wanted.keys():
            progress.remove_task(tasks.pop(name))

    with progress:
        yield show
