"""Judged sets as they are published: documents, questions, and which document answers which question how well.

A folder holds `corpus.jsonl`, `queries.jsonl` and the judgements: `qrels.tsv` (question, document, grade), as BEIR
has them below `qrels/`, or in TREC's form (question, 0, document, grade). A file is the judgements alone: the questions
are looked for beside it, the documents too, unless they are memories that are there already.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memory_operator.client.errors import MisuseError

Judgements = Mapping[str, Mapping[str, int]]
"""Grades by question, then by document; above 0 is an answer."""

_QRELS = ("qrels.tsv", "qrels.txt", "qrels", "qrels/test.tsv", "qrels/dev.tsv", "test.tsv")
_FORM = "a line is: question, document, grade; or in TREC's form: question, 0, document, grade"


@dataclass(frozen=True, slots=True)
class JudgedSet:
    """Questions with their answers."""

    name: str
    documents: Mapping[str, str]
    """Texts by id; none where the documents are memories."""
    questions: Mapping[str, str]
    """Those that have an answer."""
    judgements: Judgements

    @property
    def missing(self) -> int:
        """How many answers are not among the documents: nobody can find those."""
        wanted = {name for grades in self.judgements.values() for name, grade in grades.items() if grade > 0}
        return len(wanted - self.documents.keys()) if self.documents else 0


def read_judged_sets(path: Path) -> list[JudgedSet]:
    """The set of a folder or file, or all sets in the folders of a folder. Raises MisuseError."""
    if path.is_file():
        return [_read_set(path, path.parent)]
    if not path.is_dir():
        raise MisuseError(f"{path} is neither a folder nor a file")
    if qrels := _qrels_in(path):
        return [_read_set(qrels, path)]
    found = [(qrels, folder) for folder in sorted(path.iterdir()) if folder.is_dir() and (qrels := _qrels_in(folder))]
    if not found:
        raise MisuseError(f"{path} holds no judgements", "it must hold corpus.jsonl, queries.jsonl and qrels.tsv")
    return [_read_set(qrels, folder) for qrels, folder in found]


def read_questions(path: Path) -> list[str]:
    """Questions alone: one a line, or as queries.jsonl has them. Raises MisuseError."""
    lines = [line for _, line in _lines(path)]
    if not lines:
        raise MisuseError(f"{path} is empty")
    return list(_read_texts(path).values()) if lines[0].lstrip().startswith("{") else [line.strip() for line in lines]


def _qrels_in(folder: Path) -> Path | None:
    return next((folder / name for name in _QRELS if (folder / name).is_file()), None)


def _read_set(qrels: Path, folder: Path) -> JudgedSet:
    judgements = _read_judgements(qrels)
    folders = (folder, folder.parent) if folder.name == "qrels" else (folder,)
    queries = _first(folders, "queries.jsonl")
    if queries is None:
        raise MisuseError(f"there is no queries.jsonl beside {qrels}")
    corpus = _first(folders, "corpus.jsonl")
    questions = _read_texts(queries)
    answered = {question for question, grades in judgements.items() if max(grades.values()) > 0}
    if not answered:
        raise MisuseError(f"{qrels} judges no document as an answer", "a grade above 0 is one")
    if unknown := sorted(answered - questions.keys()):
        raise MisuseError(f"{qrels} judges question {unknown[0]!r}, which {queries} does not have")
    documents = _read_texts(corpus) if corpus else {}
    if corpus and not any(name in documents for question in answered for name in judgements[question]):
        raise MisuseError(f"{qrels} judges no document of {corpus}", _FORM)
    name = folders[-1].resolve().name
    return JudgedSet(name, documents, {q: text for q, text in questions.items() if q in answered}, judgements)


def _first(folders: tuple[Path, ...], name: str) -> Path | None:
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, each with its place."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path}, line {number}", line.rstrip("\r\n")
    except OSError as error:
        raise MisuseError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise MisuseError(f"{path} is not UTF-8") from error


def _read_judgements(path: Path) -> Judgements:
    found: dict[str, dict[str, int]] = {}
    for index, (where, line) in enumerate(_lines(path)):
        fields = [field.strip() for field in (line.split("\t") if "\t" in line else line.split())]
        if len(fields) not in (3, 4):
            raise MisuseError(f"{where}: {len(fields)} fields", _FORM)
        question, document, grade = fields[0], fields[-2], fields[-1]
        if not grade.removeprefix("-").isdecimal():
            if index == 0:
                continue  # the names of the columns
            raise MisuseError(f"{where}: the grade {grade[:40]!r} is no integer", _FORM)
        if found.setdefault(question, {}).setdefault(document, int(grade)) != int(grade):
            raise MisuseError(f"{where}: document {document!r} has two grades for question {question!r}")
    if not found:
        raise MisuseError(f"{path} holds no judgements", _FORM)
    return found


def _read_texts(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for where, line in _lines(path):
        name, text = _text_of(where, line)
        if name in found:
            raise MisuseError(f"{where}: the id {name!r} is there twice")
        found[name] = text
    if not found:
        raise MisuseError(f"{path} is empty")
    return found


def _text_of(where: str, line: str) -> tuple[str, str]:
    """Id and text of a line; a title is the text's first sentence."""
    try:
        document: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise MisuseError(f"{where}: not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise MisuseError(f"{where}: JSON nested too deeply") from error
    fields = document if isinstance(document, dict) else {}
    name, text, title = fields.get("id", fields.get("_id")), fields.get("text"), fields.get("title") or ""
    if not isinstance(name, str | int) or not isinstance(text, str) or not isinstance(title, str):
        raise MisuseError(f"{where}: no object with the texts `id` (or `_id`) and `text`")
    return str(name), f"{title}. {text}" if title else text
