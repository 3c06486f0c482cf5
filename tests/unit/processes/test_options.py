"""The options of `memory-operator`: from the command line, from the environment."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, get_type_hints

import click
import typer
from prometheus_client import REGISTRY
from typer.testing import CliRunner

from memory_operator import cli
from memory_operator.metrics import Metrics
from memory_operator.processes.options import CombinedOptions, OperatorOptions


def _given(arguments: list[str], environment: dict[str, str]) -> OperatorOptions:
    """What a command with the options of `run` is given."""
    app, received = typer.Typer(), list[OperatorOptions]()
    cli.command(app, OperatorOptions)(received.append)
    result = CliRunner().invoke(app, arguments, env=environment)
    assert result.exit_code == 0, result.output
    return received[0]


def test_an_option_wins_over_its_variable_and_commas_part_a_list() -> None:
    options = _given(
        ["--namespaces", "one, two,", "--no-fill"],
        {"MEMORY_MASTER_KEY_FILE": "/key", "MEMORY_NAMESPACES": "three", "MEMORY_PROBE_PORT": "9000", "SOME": "thing"},
    )
    assert options.namespaces == ("one", "two")
    assert (options.fill, options.probe_port, options.master_key_file) == (False, 9000, Path("/key"))
    assert options.environment["SOME"] == "thing"
    assert options.withheld_secrets == ()


def test_each_field_of_a_process_is_an_option_with_a_variable_and_a_help_text() -> None:
    hints = get_type_hints(CombinedOptions, include_extras=True)
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    options = {each.name: each for name in ("run", "worker", "api") for each in commands[name].params}
    fields = {each.name for each in dataclasses.fields(CombinedOptions)} - {"environment"}
    assert fields == set(options) - {"help"}
    for name in fields:
        assert isinstance(hints[name], type(Annotated[int, 1])), name
        option = options[name]
        assert isinstance(option, click.core.Option | typer.core.TyperOption)
        assert option.envvar, name
        assert option.help, name


def test_importing_metrics_registers_nothing_and_each_process_counts_for_itself() -> None:
    one, other = Metrics(), Metrics()
    one.fill_vectors.inc()
    assert one.registry.get_sample_value("memory_fill_vectors_total") == 1
    assert other.registry.get_sample_value("memory_fill_vectors_total") == 0
    assert REGISTRY.get_sample_value("memory_fill_vectors_total") is None
