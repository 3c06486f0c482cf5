"""`memory language`: the language of a project's words."""

from __future__ import annotations

from collections.abc import Callable

from typer.testing import Result

from fixtures.memory_api import Reply, StubMemoryApi

Run = Callable[..., Result]


def words(project: str, language: str, *, rewriting: bool = False) -> dict[str, object]:
    return {"project": project, "language": language, "languages": ["english", "german"], "rewriting": rewriting}


def test_projects_are_listed_with_their_languages(run: Run, memory_api: StubMemoryApi) -> None:
    shown = [words("a", "auto"), words("b", "german", rewriting=True)]
    memory_api.on("GET", "/v1/projects", Reply({"projects": shown}))
    result = run("language")
    assert result.stdout.splitlines()[1:] == [
        "a\tauto\tenglish, german\t",
        "b\tgerman\tenglish, german\tbeing indexed anew",
    ]
    assert run("language", "-p", "a").stdout.splitlines()[1:] == ["a\tauto\tenglish, german\t"]


def test_a_language_is_set(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", "/v1/projects/language", Reply(words("notes", "german", rewriting=True)))
    result = run("language", "german", "-p", "notes")
    assert (result.exit_code, result.stdout) == (0, "words of project notes: german\n")
    assert "in the background" in result.stderr
    assert memory_api.bodies("POST", "/v1/projects/language") == [{"project": "notes", "language": "german"}]
