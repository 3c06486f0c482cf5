"""`memory eval`: judged sets, known items, gates."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from fixtures.memory_api import Received, Reply, StubMemoryApi, problem

Run = Callable[..., Result]

DOCUMENTS = {
    "d1": "Bees make honey from the nectar of many flowers.",
    "d2": "Whales sing songs that travel through whole oceans.",
    "d3": "Granite is a coarse rock of quartz and feldspar.",
    "d4": "Sourdough bread rises with wild yeast overnight.",
}
QUESTIONS = {"q1": "honey nectar", "q2": "ocean songs of whales", "q3": "coarse rock"}


class Store:
    """Memories behind the stub: one space; full-text finds by shared words, meaning nothing but the newest."""

    def __init__(self, api: StubMemoryApi, *, spaces: int = 1) -> None:
        self.memories: dict[str, dict[str, Any]] = {}
        self.pending = 0
        names = [f"m-8-{number + 1}" for number in range(spaces)]
        self.spaces = [{"embedding_version": name, "provider": f"default/{name}", "state": "ready"} for name in names]
        api.on("POST", "/memory/add", self.add)
        api.on("POST", "/memory/query", self.query)
        api.on("GET", "/v1/memories", self.listed)
        api.on("GET", "/v1/stats", lambda _: Reply({"projects": [], "chunks": 0}))
        api.on("GET", "/v1/embeddings/spaces", self.shown_spaces)

    def shown_spaces(self, _request: Received) -> Reply:
        figures = {"dimensions": 8, "vectors": 0, "chunks": 0, "coverage": 1.0, "pending": self.pending}
        self.pending = 0
        return Reply({"spaces": [{**one, **figures, "active": number == 0} for number, one in enumerate(self.spaces)]})

    def add(self, request: Received) -> Reply:
        memory_id = f"{len(self.memories):08x}-0000-4000-8000-000000000000"
        self.memories[memory_id] = {"id": memory_id, "project": "default", **request.body}
        return Reply({"id": memory_id, "project": "p", "embedding_status": "embedded"}, 201)

    def query(self, request: Received) -> Reply:
        body = request.body
        found = [one for one in self.memories.values() if one["project"] == body["project"]]
        channels = body.get("channels", ["fulltext", "semantic"])
        wanted = set(body["query"].casefold().split())
        if "fulltext" in channels:
            found.sort(key=lambda one: -len(wanted & set(re.findall(r"\w+", one["text"].casefold()))))
        results = [{"id": one["id"], "text": one["text"], "score": 1.0} for one in found[: body["k"]]]
        statuses = {name: {"status": "ok"} for name in channels}
        return Reply({"results": results, "diagnostics": {"semantic_status": "ok", "channels": statuses}})

    def listed(self, request: Received) -> Reply:
        project = request.params.get("project")
        shown = [
            {**one, "version_no": 1} for one in self.memories.values() if project is None or one["project"] == project
        ]
        return Reply({"memories": shown, "next_before": None})

    def erasable(self, api: StubMemoryApi) -> None:
        for memory_id in [f"{number:08x}-0000-4000-8000-000000000000" for number in range(20)]:

            def erase(_request: Received, memory_id: str = memory_id) -> Reply:
                self.memories.pop(memory_id)
                return Reply({"status": "purged"})

            api.on("DELETE", f"/memory/{memory_id}", erase)


@pytest.fixture
def store(memory_api: StubMemoryApi) -> Store:
    found = Store(memory_api)
    found.erasable(memory_api)
    return found


def jsonl(texts: dict[str, str], key: str = "id") -> str:
    return "".join(json.dumps({key: name, "text": text}) + "\n" for name, text in texts.items())


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    folder = tmp_path / "beasts"
    folder.mkdir()
    (folder / "corpus.jsonl").write_text(jsonl(DOCUMENTS))
    (folder / "queries.jsonl").write_text(jsonl(QUESTIONS))
    (folder / "qrels.tsv").write_text("query\tdocument\tgrade\nq1\td1\t2\nq1\td4\t0\nq2\td2\t1\nq3\td3\t1\n")
    return folder


def test_a_judged_set_is_loaded_measured_in_each_way_and_removed(run: Run, store: Store, judged: Path) -> None:
    result = run("eval", "--judged", str(judged))
    assert result.exit_code == 0, result.stderr
    assert store.memories == {}
    lines = result.stdout.splitlines()
    assert lines[0] == "beasts: 3 questions, 4 documents, k = 10"
    assert lines[1].split("\t") == ["WAY", "nDCG@10", "95 %", "recall@10", "MRR@10", "MAP@10"]
    ways = {line.split("\t")[0]: line.split("\t")[1] for line in lines[2:5]}
    assert (ways["default"], ways["full-text alone"]) == ("1.000", "1.000")
    assert float(ways["semantic alone"]) < 1
    assert "The default is ahead of" in result.stdout


def test_each_space_in_use_is_measured_too(run: Run, memory_api: StubMemoryApi, judged: Path) -> None:
    Store(memory_api, spaces=2).erasable(memory_api)
    result = run("eval", "--judged", str(judged), "--json")
    [found] = json.loads(result.stdout)["sets"]
    ways = ["default", "full-text alone", "semantic alone", "default in m-8-2", "semantic in m-8-2"]
    assert [one["way"] for one in found["ways"]] == ways
    versions = {body.get("embedding_version") for body in memory_api.bodies("POST", "/memory/query")}
    assert versions == {None, "m-8-2"}
    assert set(found["ways"][0]["by_question"]) == set(QUESTIONS)
    assert {one["verdict"] for one in found["comparisons"]} <= {"better", "worse", "no more than chance"}


def test_what_is_kept_is_asked_again_without_loading(
    run: Run, store: Store, memory_api: StubMemoryApi, judged: Path
) -> None:
    first = run("eval", "--judged", str(judged), "--keep", "--json")
    assert len(store.memories) == len(DOCUMENTS)
    [before] = json.loads(first.stdout)["sets"]
    again = run("eval", "--judged", str(judged), "--project", before["project"], "--json")
    [after] = json.loads(again.stdout)["sets"]
    assert after["ways"] == before["ways"]
    assert len(memory_api.bodies("POST", "/memory/add")) == len(DOCUMENTS)


def test_what_was_loaded_is_removed_when_a_question_fails(
    run: Run, store: Store, memory_api: StubMemoryApi, judged: Path
) -> None:
    memory_api.on("POST", "/memory/query", problem(400, "invalid_input", "not like this"))
    result = run("eval", "--judged", str(judged))
    assert (result.exit_code, "not like this" in result.stderr) == (2, True)
    assert store.memories == {}


def test_what_could_not_be_removed_is_told_with_the_project_and_what_to_do(
    run: Run, store: Store, memory_api: StubMemoryApi, judged: Path
) -> None:
    kept = "00000002-0000-4000-8000-000000000000"
    memory_api.on("DELETE", f"/memory/{kept}", problem(409, "concurrent_change", "not now"))
    result = run("eval", "--judged", str(judged))
    assert (result.exit_code, list(store.memories)) == (0, [kept])
    told = " ".join(result.stderr.split())
    assert "project eval-beasts could not be removed: 1 of its memories could not be erased" in told
    assert "memory list --project eval-beasts shows what is left" in told


def test_a_list_that_fails_at_the_end_is_told_after_the_result(
    run: Run, store: Store, memory_api: StubMemoryApi, judged: Path
) -> None:
    memory_api.on("GET", "/v1/memories", problem(400, "invalid_input", "no list today"))
    result = run("eval", "--judged", str(judged))
    assert (result.exit_code, "The default is" in result.stdout) == (0, True)
    assert "could not be removed: no list today" in " ".join(result.stderr.split())


def test_what_was_loaded_is_removed_at_an_interrupt(
    terminal: Callable[..., Any], store: Store, memory_api: StubMemoryApi, judged: Path
) -> None:
    def never_filled(request: Received) -> Reply:
        store.pending = 3
        return store.shown_spaces(request)

    memory_api.on("GET", "/v1/embeddings/spaces", never_filled)
    memory = terminal("eval", "--judged", str(judged))
    memory.expect("waiting for vectors")
    assert len(store.memories) == len(DOCUMENTS)
    memory.process.send_signal(signal.SIGINT)
    assert memory.ends() == 130
    assert store.memories == {}
    assert "interrupted: project eval-beasts is removed" in memory.shown


def test_it_waits_until_the_spaces_have_the_vectors(
    run: Run, store: Store, memory_api: StubMemoryApi, judged: Path
) -> None:
    store.pending = 3
    run("eval", "--judged", str(judged))
    paths = [(one.method, one.path) for one in memory_api.received]
    looks = [index for index, one in enumerate(paths) if one == ("GET", "/v1/embeddings/spaces")]
    assert sum(index < paths.index(("POST", "/memory/query")) for index in looks) >= 2


def test_the_forms_of_beir_and_of_trec_are_read(run: Run, store: Store, judged: Path, tmp_path: Path) -> None:
    beir = tmp_path / "as-beir"
    (beir / "qrels").mkdir(parents=True)
    (beir / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": name, "title": "On it", "text": text}) + "\n" for name, text in DOCUMENTS.items())
    )
    (beir / "queries.jsonl").write_text(jsonl({**QUESTIONS, "train": "a question without judgements"}, "_id"))
    (beir / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\nq2\td2\t1\nq3\td3\t1\n")
    (judged / "qrels.tsv").unlink()
    trec = judged / "judgements.qrels"
    trec.write_text("q1 0 d1 2\nq2 0 d2 1\nq3 Q0 d3 1\n")
    for path, name in ((beir, "as-beir"), (beir / "qrels" / "test.tsv", "as-beir"), (trec, "beasts")):
        result = run("eval", "--judged", str(path), "--json")
        assert result.exit_code == 0, result.stderr
        [found] = json.loads(result.stdout)["sets"]
        assert (found["name"], found["questions"]) == (name, 3)
        assert found["ways"][0]["measures"]["nDCG@10"]["mean"] == 1.0


def test_a_folder_of_sets_is_measured_set_by_set(run: Run, store: Store, judged: Path) -> None:
    result = run("eval", "--judged", str(judged.parent), "--json")
    assert [one["name"] for one in json.loads(result.stdout)["sets"]] == ["beasts"]


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("qrels.tsv", "q1\td1\n", "line 1: 2 fields"),
        ("qrels.tsv", "q1\td1\t1\nq1\td2\tgood\n", "line 2: the grade 'good' is no integer"),
        ("qrels.tsv", "q1\td1\t1\nq1\td1\t2\n", "document 'd1' has two grades for question 'q1'"),
        ("qrels.tsv", "q1\td1\t0\n", "judges no document as an answer"),
        ("qrels.tsv", "q9\td1\t1\n", "judges question 'q9', which"),
        ("qrels.tsv", "q1\telsewhere\t1\n", "judges no document of"),
        ("qrels.tsv", "", "holds no judgements"),
        ("corpus.jsonl", '{"id": "d1", "text": "a"}\n{"id": 1\n', "line 2: not JSON"),
        ("corpus.jsonl", '{"id": "d1"}\n', "line 1: no object with the texts"),
        ("corpus.jsonl", '["d1", "a"]\n', "line 1: no object with the texts"),
        (
            "corpus.jsonl",
            '{"id": "d1", "text": "a"}\n{"id": "d1", "text": "b"}\n',
            "line 2: the id 'd1' is there twice",
        ),
        ("corpus.jsonl", b"\xff\xfe\n", "is not UTF-8"),
        ("queries.jsonl", "\n", "is empty"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(
    run: Run, store: Store, memory_api: StubMemoryApi, judged: Path, file: str, content: str | bytes, reason: str
) -> None:
    (judged / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    result = run("eval", "--judged", str(judged))
    assert (result.exit_code, reason in result.stderr) == (2, True), result.stderr
    assert memory_api.received == []


def test_files_that_are_not_there_are_named(run: Run, store: Store, judged: Path, tmp_path: Path) -> None:
    assert "neither a folder nor a file" in run("eval", "--judged", str(tmp_path / "nowhere")).stderr
    (tmp_path / "empty").mkdir()
    assert "holds no judgements" in run("eval", "--judged", str(tmp_path / "empty")).stderr
    (judged / "queries.jsonl").unlink()
    assert "no queries.jsonl" in run("eval", "--judged", str(judged)).stderr
    assert run("eval").exit_code == run("eval", "--judged", str(judged), "--self", "3").exit_code == 2


def own(store: Store, count: int = 12) -> None:
    words = ["ash", "bay", "elm", "fir", "fig", "ivy", "oak", "yew", "box", "hop", "rye", "nut", "pea"]
    for number in range(count):
        text = f"The {words[number]} stands near {words[number - 1]} and number {number} watches over it."
        memory_id = f"{number:08x}-0000-4000-8000-000000000000"
        store.memories[memory_id] = {"id": memory_id, "project": "notes", "text": text}


def test_known_items_are_found_again_and_the_output_says_what_that_shows(run: Run, store: Store) -> None:
    own(store)
    result = run("eval", "--self", "5", "-p", "notes")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("notes: 5 questions, k = 10\n")
    assert "5 questions are few" in result.stderr
    assert "found again by some of their own words" in result.stderr
    assert "cannot show" in result.stderr
    assert len(store.memories) == 12


def test_known_items_are_the_same_for_a_seed(run: Run, store: Store, memory_api: StubMemoryApi) -> None:
    own(store)

    def questions(seed: int) -> set[str]:
        before = len(memory_api.received)
        run("eval", "--self", "5", "-p", "notes", "--seed", str(seed))
        return {one.body["query"] for one in memory_api.received[before:] if one.path == "/memory/query"}

    assert questions(1) == questions(1)
    assert questions(1) != questions(2)


def test_equal_memories_answer_for_each_other(run: Run, store: Store) -> None:
    for number in range(3):
        memory_id = f"{number:08x}-0000-4000-8000-000000000000"
        store.memories[memory_id] = {"id": memory_id, "project": "notes", "text": "Three equal words and more."}
    [found] = json.loads(run("eval", "--self", "9", "-p", "notes", "--json").stdout)["sets"]
    assert found["ways"][0]["measures"]["nDCG@10"]["mean"] == 1.0
    assert found["questions"] == 3


def test_a_text_without_spaces_gives_a_question_too(run: Run, store: Store, memory_api: StubMemoryApi) -> None:
    text = "數據庫備份每天凌晨兩點開始。"
    store.memories["00000000-0000-4000-8000-000000000000"] = {"id": "x", "project": "notes", "text": text}
    assert run("eval", "--self", "1", "-p", "notes").exit_code == 0
    assert all(body["query"] in text for body in memory_api.bodies("POST", "/memory/query"))


def test_a_project_without_memories_is_told(run: Run, store: Store) -> None:
    result = run("eval", "--self", "5")
    assert (result.exit_code, "project default has no memory" in result.stderr) == (1, True)


def test_a_gate_is_passed_or_ends_with_nine(run: Run, store: Store, judged: Path) -> None:
    assert run("eval", "--judged", str(judged), "--gate", "1").exit_code == 0
    (judged / "qrels.tsv").write_text("q1\td1\t1\nq2\td1\t1\nq3\td1\t1\n")
    result = run("eval", "--judged", str(judged), "--gate", "1", "--json")
    assert (result.exit_code, json.loads(result.stdout)["gate"]["passed"]) == (9, False)


def test_worse_answers_than_before_end_with_nine_and_equal_ones_do_not(
    run: Run, store: Store, memory_api: StubMemoryApi, tmp_path: Path
) -> None:
    own(store)
    arguments = ("eval", "--self", "12", "-p", "notes", "--json")
    earlier = tmp_path / "before.json"
    earlier.write_text(run(*arguments).stdout)
    assert run(*arguments, "--gate-against", str(earlier)).exit_code == 0
    nothing = {"results": [], "diagnostics": {"semantic_status": "ok", "channels": {}}}
    memory_api.on("POST", "/memory/query", Reply(nothing))
    worse = run(*arguments, "--gate-against", str(earlier))
    assert worse.exit_code == 9
    assert "worse than in" in json.loads(worse.stdout)["gate"]["reasons"][0]
    below = run(*arguments[:-1], "--gate", "0.5")
    assert (below.exit_code, "below 0.5" in below.stderr) == (9, True)


def test_a_gate_against_something_else_is_refused(run: Run, store: Store, judged: Path, tmp_path: Path) -> None:
    own(store)
    earlier = tmp_path / "before.json"
    earlier.write_text(run("eval", "--self", "3", "-p", "notes", "--json").stdout)
    other = run("eval", "--judged", str(judged), "--gate-against", str(earlier))
    assert (other.exit_code, "has no question of beasts" in other.stderr) == (2, True)
    earlier.write_text('{"sets": [{"name": "beasts"}]}')
    assert "is no evaluation" in run("eval", "--judged", str(judged), "--gate-against", str(earlier)).stderr


def test_answers_that_a_channel_is_missing_from_are_counted(run: Run, store: Store, memory_api: StubMemoryApi) -> None:
    own(store)
    late = {"fulltext": {"status": "ok"}, "semantic": {"status": "timeout"}}
    memory_api.on(
        "POST",
        "/memory/query",
        Reply({"results": [], "diagnostics": {"semantic_status": "filling", "channels": late}}),
    )
    result = run("eval", "--self", "4", "-p", "notes", "--json")
    [found] = json.loads(result.stdout)["sets"]
    assert found["ways"][0]["incomplete_answers"] == {"timeout": 4, "filling": 4}
    assert any("4 timeout" in remark for remark in found["remarks"])


def test_re_ranked_answers_are_compared_with_those_that_nobody_re_ranks(
    run: Run, store: Store, memory_api: StubMemoryApi, judged: Path
) -> None:
    result = run("eval", "--judged", str(judged), "--rerank", "agents/reranker", "--json")
    assert result.exit_code == 0, result.stderr
    [found] = json.loads(result.stdout)["sets"]
    ways = ["default", "re-ranked", "full-text alone", "semantic alone"]
    assert [one["way"] for one in found["ways"]] == ways
    assert found["comparisons"][0]["against"] == "re-ranked"
    bodies = memory_api.bodies("POST", "/memory/query")
    said = [body["rerank"] for body in bodies if "channels" not in body]
    assert sorted(said, key=str) == [{"provider": "agents/reranker"}] * 3 + [{"top": 0}] * 3
    assert all(body["rerank"] == {"top": 0} for body in bodies if "channels" in body)


def test_the_default_is_re_ranked_as_everybodys_queries_are_and_channels_alone_never(
    run: Run, store: Store, memory_api: StubMemoryApi, judged: Path
) -> None:
    run("eval", "--judged", str(judged))
    bodies = memory_api.bodies("POST", "/memory/query")
    assert {json.dumps(body.get("rerank")) for body in bodies if "channels" not in body} == {"null"}
    assert {json.dumps(body.get("rerank")) for body in bodies if "channels" in body} == {'{"top": 0}'}
    memory_api.received.clear()
    run("eval", "--judged", str(judged), "--rerank", "off")
    assert all(body["rerank"] == {"top": 0} for body in memory_api.bodies("POST", "/memory/query"))


def test_answers_that_re_ranking_is_missing_from_are_told(
    run: Run, store: Store, memory_api: StubMemoryApi, judged: Path
) -> None:
    def unavailable(request: Received) -> Reply:
        answer = store.query(request)
        answer.body["diagnostics"]["rerank"] = {"status": "unavailable", "reason": "circuit_open"}
        return answer

    memory_api.on("POST", "/memory/query", unavailable)
    result = run("eval", "--judged", str(judged), "--rerank", "active", "--json")
    [found] = json.loads(result.stdout)["sets"]
    assert found["ways"][1]["incomplete_answers"] == {"not re-ranked": 3}
