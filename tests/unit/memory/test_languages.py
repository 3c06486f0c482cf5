"""Which configuration a text is indexed with, and how much of a question says something."""

from __future__ import annotations

import pytest

from memory_operator.memory.languages import configuration_of, question_language
from memory_operator.memory.search_terms import MAX_PAIRS, fold, indexed, query_terms


@pytest.mark.parametrize(
    ("text", "configuration"),
    [
        ("The backup of the database runs every night.", "english"),
        ("PostgreSQL connection pooling errors", None),
        ("getUserById returned 404", None),
        ("Danke dir!", None),
        ("Yeah, love painting 🎨", None),
        ("Commune du canton de Vaud en Suisse.", "french"),
        ("Linda y hermosa ciudad de Chile", None),
        ("Die Sicherung der Datenbank läuft jede Nacht.", "german"),
        ("La sauvegarde de la base est faite chaque nuit par le serveur.", "french"),
        ("La copia de la base de datos se hace cada noche y no de día.", "spanish"),
        ("A cópia do banco de dados é feita toda noite e não de dia.", "portuguese"),
        ("Il backup della base di dati viene fatto ogni notte con il server.", "italian"),
        ("De back-up van de database wordt elke nacht door het systeem gemaakt.", "dutch"),
        ("Säkerhetskopian av databasen görs varje natt och inte på dagen.", "swedish"),
        ("Резервная копия базы создаётся каждую ночь.", "russian"),
        ("Резервна копія бази створюється щоночі.", "simple"),
        ("Резервна копија базе прави се сваке ноћи.", "serbian"),
        ("تبدأ النسخ الاحتياطية كل ليلة", "arabic"),
        ("پشتیبان‌گیری هر شب انجام می‌شود", "simple"),
        ("Το αντίγραφο ασφαλείας γίνεται κάθε νύχτα", "greek"),
        ("डेटाबेस का बैकअप हर रात होता है", "hindi"),
        ("数据库备份每天凌晨两点开始", "simple"),
        ("データベースのバックアップ", "simple"),
        ("백업은 매일 밤 시작됩니다", "simple"),
        ("Kopia bazy danych jest robiona co noc i nie za dnia.", "simple"),
        ("Qualität", None),
        ("Return a week in a year of the calendar", "english"),
        ("email.get_cfws: CFWS = (1*([FWS] comment) [FWS]) / FWS", None),
        ("fractions.from_decimal: Converts a finite Decimal to a rational, de facto", "english"),
        ("Wo liegt der Rechner?", "german"),
        ("", None),
    ],
)
def test_a_text_has_the_configuration_of_its_script_and_small_words(text: str, configuration: str | None) -> None:
    assert configuration_of(text) == configuration


def test_a_question_has_a_language_only_where_that_shows() -> None:
    assert question_language("Wo ist der Schlüssel?") == "german"
    assert question_language("PostgreSQL pooling") is None
    assert question_language("数据库备份") is None


def test_small_words_of_a_question_are_left_out_unless_there_are_no_others() -> None:
    assert query_terms("Wann läuft die Sicherung?").words == "läuft sicherung"
    assert query_terms("wer wie was").words == "wer wie was"
    assert query_terms("when does it run").words == "when does it run"


def test_scripts_without_spaces_become_pairs() -> None:
    assert indexed("東京都に住む") == " 東京 京都 都に に住 住む む "
    found = query_terms("東京に住む")
    assert (found.words, found.pairs) == ("東京 京に に住 住む", 4)
    assert query_terms("これは東京です").words == "は東 東京 京で"
    assert query_terms("漢").singles == ("漢",)
    assert query_terms("漢" * 500 + "字" * 500).pairs <= MAX_PAIRS


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("Größe", "grosse"),
        ("café", "cafe"),
        ("ŁÓDŹ", "lodz"),
        ("ещё", "еще"),
        ("كِتَاب", "كتاب"),
        ("plain Text", "plain Text"),
        ("हिन्दी", "हिन्दी"),
        ("がぎぐ", "がぎぐ"),
    ],
)
def test_accents_are_folded_and_vowel_signs_are_not(text: str, bare: str) -> None:
    assert fold(text) == bare


def test_print_punctuation_is_that_of_ascii() -> None:
    assert query_terms("“exact phrase” foo‑bar").written == '"exact phrase" foo-bar'
    assert indexed("„Zitat“ – it’s").startswith('"Zitat"   it\'s')
