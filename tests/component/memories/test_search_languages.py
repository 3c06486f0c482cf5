"""Words of many languages: found by what the language makes of them, in projects of one language and of several."""

from __future__ import annotations

from typing import Any

import pytest

from fixtures.memories import AGENT, Memories, config
from fixtures.waiting import until
from memory_operator.engine.memories.answer import RecallAnswer
from memory_operator.engine.memories.recall import QueryOptions
from memory_operator.errors import InvalidInput

TEXTS = {
    "german": (
        "Die Sicherungen der Datenbank laufen jede Nacht um zwei Uhr.",
        "Der Schlüssel für das Büro liegt bei Frau Müller im dritten Stock.",
        "Nach dem Umzug wurden alle Verträge mit Lieferanten gekündigt.",
    ),
    "arabic": (
        "تبدأ النسخ الاحتياطية لقاعدة البيانات كل ليلة في الساعة الثانية.",
        "يحفظ المهندسون مفاتيح المكتب في الطابق الثالث.",
        "ألغى الفريق جميع العقود مع الموردين بعد الانتقال.",
    ),
    "chinese": (
        "数据库备份每天凌晨两点开始。",
        "办公室的钥匙在三楼的王女士那里。",
        "搬家以后，与供应商的所有合同都已取消。",
    ),
    "japanese": (
        "データベースのバックアップは毎晩二時に始まります。",
        "事務所の鍵は三階の田中さんが持っています。",
        "引っ越しの後、仕入先との契約はすべて解約されました。",
    ),
    "russian": (
        "Резервные копии базы данных создаются каждую ночь в два часа.",
        "Ключи от офиса лежат у секретаря на третьем этаже.",
        "После переезда все договоры с поставщиками были расторгнуты.",
    ),
    "english": (
        "Backups of the database run every night at two.",
        "The key of the office is with Mrs Miller on the third floor.",
        "After the move all contracts with suppliers were cancelled.",
    ),
}
"""Of each language the same three: backups, the key, contracts."""

QUESTIONS = {
    "german": (
        "Wann läuft die Sicherung der Datenbank?",
        "Wo ist der Schlüssel vom Büro?",
        "Welcher Vertrag wurde gekündigt?",
    ),
    "arabic": ("متى تبدأ نسخة احتياطية من قاعدة البيانات؟", "أين مفتاح المكتب؟", "ما العقد الذي ألغاه الفريق؟"),
    "chinese": ("数据库什么时候备份？", "办公室钥匙在哪里？", "哪些合同取消了？"),
    "japanese": (
        "データベースのバックアップはいつか？",
        "事務所の鍵はどこか？",
        "どの契約が解約されたか？",
    ),
    "russian": (
        "Когда создаётся резервная копия базы?",
        "Где ключ от офиса?",
        "Какой договор с поставщиком расторгнут?",
    ),
    "english": (
        "When does the backup of the database run?",
        "Where is the office key?",
        "Which contract was cancelled?",
    ),
}

ALONE = QueryOptions(channels=("fulltext",))


def texts(answer: RecallAnswer) -> list[str]:
    assert answer.diagnostics.channels["fulltext"].status == "ok"
    return [result.text for result in answer.results]


async def _languages(memories: Memories) -> set[str]:
    rows = await memories.world.fetch("select coalesce(language, 'english') as language from memory_chunks where live")
    return {row["language"] for row in rows}


@pytest.mark.parametrize("language", sorted(TEXTS))
async def test_a_question_finds_by_words_in_its_own_language(memories: Memories, language: str) -> None:
    for text in TEXTS[language]:
        await memories.add(text)
    for question, text in zip(QUESTIONS[language], TEXTS[language], strict=True):
        assert texts(await memories.query(question, options=ALONE))[0] == text


async def test_questions_find_their_own_language_in_a_project_of_all_of_them(memories: Memories) -> None:
    for number in range(3):
        for language in TEXTS:
            await memories.add(TEXTS[language][number])
    for language, questions in QUESTIONS.items():
        for question, text in zip(questions, TEXTS[language], strict=True):
            assert texts(await memories.query(question, options=ALONE))[0] == text, question
    assert await _languages(memories) == {"german", "arabic", "russian", "english", "simple"}


async def test_a_text_that_shows_no_language_has_that_of_its_neighbours(memories: Memories) -> None:
    await memories.add("Anna: Tolle Sonnenschirme!")  # before any shows, it is English
    for text in TEXTS["german"]:
        await memories.add(text)
    await memories.add("Ben: Tolle Katzenbilder!")
    await memories.add("Ben: Schöne Hundebilder 🎨")
    assert await _languages(memories) == {"german", "english"}
    for question, text in (
        ("Katzenbild", "Ben: Tolle Katzenbilder!"),
        ("Hundebild", "Ben: Schöne Hundebilder 🎨"),
        ("Sonnenschirme", "Anna: Tolle Sonnenschirme!"),
    ):
        assert texts(await memories.query(question, options=ALONE))[:1] == [text]
    await memories.remember.set_language("default", "default", "auto", AGENT)
    async with memories.world.worker():
        await _rewritten(memories)
    assert await _languages(memories) == {"german"}


async def test_a_text_in_latin_letters_among_others_is_english(memories: Memories) -> None:
    for language in ("russian", "chinese"):
        for text in TEXTS[language]:
            await memories.add(text)
    await memories.add("PostgreSQL connection pooling errors")
    found = await memories.query("pooled connections", options=ALONE)
    assert texts(found) == ["PostgreSQL connection pooling errors"]


async def test_small_words_of_a_question_never_keep_all_other_words_from_matching(memories: Memories) -> None:
    for text in TEXTS["german"]:
        await memories.add(text)
    answer = await memories.query("Wann war das mit dem Umzug und den Lieferanten?", options=ALONE)
    assert texts(answer)[0] == TEXTS["german"][2]
    assert answer.results[0].diagnostics.channels["fulltext"].matched == "all"


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Das Café an der Hauptstraße öffnet um acht.", "cafe hauptstrasse"),
        ("La bibliothèque fermée rouvre à midi.", "bibliotheque fermee"),
        ("Les bibliotheques sont fermees le dimanche.", "bibliothèques fermées"),
        ("ÜBERSICHT ALLER ÄNDERUNGEN", "übersicht änderungen"),
        ("Все ключи лежат ещё там.", "еще КЛЮЧ"),
        ("Kein Problem mit „getUserById“ – wirklich.", "getUserById"),
        ("Kein Problem mit „getUserById“ – wirklich.", "“user by id”"),
        ("Die Datei liegt in crates/memory/src/main.rs und wirft E0308.", "main.rs E0308"),
        ("Der Fehler foo_bar.baz tritt in der HTTPServer-Klasse auf.", "baz http server"),
        ("这个错误码是 E1234，出现在 src/main.rs 里。", "E1234 main.rs"),
        ("이 백업은 매일 밤 두 시에 시작됩니다.", "백업 시작"),
        ("漢字を勉強する。", "漢"),
        ("การสำรองข้อมูลเริ่มตอนตีสอง", "สำรองข้อมูล"),
    ],
)
async def test_accents_quotes_identifiers_and_scripts_without_spaces(memories: Memories, text: str, query: str) -> None:
    await memories.add("Something else that is here too.")
    await memories.add(text)
    assert texts(await memories.query(query, options=ALONE))[:1] == [text]


async def test_a_project_has_the_language_that_was_set(memories: Memories) -> None:
    await memories.remember.set_language("default", "default", "german", AGENT)
    await memories.add("Backups of the database run every night.")
    assert await _languages(memories) == {"german"}
    with pytest.raises(InvalidInput, match="there is no language klingon"):
        await memories.remember.set_language("default", "default", "klingon", AGENT)


async def _as_the_release_before_wrote_them(memories: Memories) -> None:
    """English words of the text as it was, and no language; the migration lets all projects be looked at."""
    for language in TEXTS:
        for text in TEXTS[language]:
            added = await memories.add(text)
            await memories.world.fetch(
                "update memory_chunks c set language = null, tsv = to_tsvector('english', $2)"
                " || array_to_tsvector(array['project ' || c.project_id]) from memory_entries e"
                " where e.id = c.entry_id and e.canonical_id = $1",
                added.id,
                text,
            )
    await memories.world.fetch("update memory_projects set languages = '{english}', words_after = 0")


async def _rewritten(memories: Memories) -> None:
    async def done() -> bool:
        return not any(one.rewriting for one in await memories.remember.projects("default"))

    await until(done, "all chunks to be looked at")


async def test_chunks_of_the_release_before_are_indexed_anew_in_place(memories: Memories) -> None:
    space = await memories.space(config())
    await _as_the_release_before_wrote_them(memories)
    before = await _rows(memories, space.id)
    calls = await memories.world.value("select count(*) from memory_usage_ledger")
    async with memories.world.worker():
        await _rewritten(memories)
    assert await _rows(memories, space.id) == before
    assert await memories.world.value("select count(*) from memory_usage_ledger") == calls
    assert await _languages(memories) == {"german", "arabic", "russian", "english", "simple"}
    untouched = "select count(*) from memory_chunks where language is null"
    assert await memories.world.value(untouched) == len(TEXTS["english"])
    for language, questions in QUESTIONS.items():
        assert texts(await memories.query(questions[0], options=ALONE))[0] == TEXTS[language][0]
    await memories.counted()


async def _rows(memories: Memories, space_id: int) -> list[Any]:
    """All chunks and vectors, but for what they are found by."""
    chunks = await memories.world.fetch(
        "select id, entry_id, ordinal, text, content_hash from memory_chunks order by id"
    )
    vectors = await memories.world.fetch(f"select chunk_id, embedding::text from memory_vectors_{space_id} order by 1")
    return [tuple(row) for row in (*chunks, *vectors)]


async def test_what_waits_to_be_rewritten_is_found_meanwhile(memories: Memories) -> None:
    await _as_the_release_before_wrote_them(memories)
    assert texts(await memories.query("backups database", options=ALONE))[0] == TEXTS["english"][0]
    await memories.add("Ein neuer Vertrag mit dem alten Vermieter ist unterschrieben.")
    assert texts(await memories.query("Verträge mit Vermietern", options=ALONE))[0].startswith("Ein neuer")
    assert texts(await memories.query("Datenbank", options=ALONE))[0] == TEXTS["german"][0]


async def test_another_language_is_set_for_thousands_of_chunks_in_slices(memories: Memories) -> None:
    await memories.add("\n\n".join(f"Die Häuser Nummer {number} sind verkauft. " * 20 for number in range(450)))
    assert await _languages(memories) == {"german"}
    async with memories.world.worker():
        for language in ("simple", "auto"):
            await memories.remember.set_language("default", "default", language, AGENT)
            await _rewritten(memories)
            assert await _languages(memories) == {"simple" if language == "simple" else "german"}
            found = await memories.query("haus", options=ALONE)
            assert len(found.results) == (0 if language == "simple" else 1)
