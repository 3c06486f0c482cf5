"""A group of commands that imports the module of a command only when that command is run or explained.

It also says in plain words what is wrong with an option: Typer shows pydantic's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from memory_operator.client.errors import MisuseError
from memory_operator.client.exit_codes import ExitCode
from memory_operator.client.session import options_of
from memory_operator.client.terminal.console import Screen

_COMMANDS = "memory_operator.client.commands"


def lazy_group(table: Mapping[str, tuple[str, str]]) -> type[TyperGroup]:
    """A class for a Typer group: by the name of each command its module and the first sentence of its help."""

    class LazyGroup(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return [*table, *(name for name in super().list_commands(ctx) if name not in table)]

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            found = super().get_command(ctx, cmd_name)
            return TyperCommand(cmd_name, help=table[cmd_name][1]) if found is None and cmd_name in table else found

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            if args and args[0] in table and args[0] not in self.commands:
                module = import_module(f"{_COMMANDS}.{table[args[0]][0]}")
                commands: typer.Typer = module.app
                self.add_command(get_group(commands).commands[args[0]])
            return super().resolve_command(ctx, args)

        def invoke(self, ctx: Any) -> Any:
            rest = tuple(ctx.args)
            try:
                return super().invoke(ctx)
            except typer.BadParameter as error:
                error.message = _plain(error.message)
                if not (options_of(ctx).as_json or "--json" in rest):
                    raise
                Screen(as_json=True).failure(MisuseError(error.format_message(), "--help shows what is expected"))
                raise typer.Exit(int(ExitCode.USAGE)) from error

    return LazyGroup


def _plain(text: str) -> str:
    return re.sub(r"^Input should be (.*?)(, unable to .*)?$", r"it has to be \1", text.removeprefix("Value error, "))
