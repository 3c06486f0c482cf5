"""Which of PostgreSQL's text search configurations a text is indexed with: by its script, then by its small words.

What no configuration fits is `simple`: words as they are. A short text in Latin letters may show nothing: then it is
taken for what most of its neighbours are in, and for English where that does not show either.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import Final

AUTO: Final = "auto"
ENGLISH: Final = "english"
SIMPLE: Final = "simple"

CONFIGURATIONS = frozenset(
    (
        "arabic",
        "armenian",
        "basque",
        "catalan",
        "danish",
        "dutch",
        "english",
        "finnish",
        "french",
        "german",
        "greek",
        "hindi",
        "hungarian",
        "indonesian",
        "irish",
        "italian",
        "lithuanian",
        "nepali",
        "norwegian",
        "portuguese",
        "romanian",
        "russian",
        "serbian",
        "simple",
        "spanish",
        "swedish",
        "tamil",
        "turkish",
        "yiddish",
    )
)
"""Those that every PostgreSQL from 15 on has."""

LATIN = CONFIGURATIONS - frozenset(
    ("arabic", "armenian", "greek", "hindi", "nepali", "russian", "serbian", "simple", "tamil", "yiddish")
)
"""Those of languages in Latin letters: one of them fits a text that does not show its own."""

_LOOKED_AT_CHARS = 4_000
# A single letter of ASCII is a variable as often as it is a word.
_LETTER_RUNS = re.compile(r"[^\W\d_]{2,}|[^\x00-\x7f\W\d_]")

_ENOUGH_IN_ASCII = 2
"""Different small words that a text without any other letter must have, to be in another language than English."""

# The most frequent words of a language that are rare in the others; those of languages that no configuration fits keep
# a text from being taken for a neighbour's.
_SMALL_WORDS = {
    ENGLISH: (
        "the of and to in is that it was for on are as with his they at be this have from or had by but "
        "what all were we when your can there an which their if will how do does where who why should not "
        "has been would about into our after before each every some any them then than only also us you "
        "me my"
    ),
    "german": (
        "der die das und ist nicht ein eine einen einem einer zu den dem des mit sich auf für von im wird "
        "werden auch es an als bei nach wie wir ich sie aus oder hat haben sind wann wo wer warum welche "
        "welcher welches kann nur noch über durch wenn zum zur man vor was bis um ja mir mich dir dich du bin mein "
        "meine dein sehr doch schon mal aber dann da so habe"
    ),
    "french": (
        "le la les de des et est une un du en dans que qui pour pas sur au aux avec ce cette ces cela ça il elle nous "
        "vous sont par plus ne se son sa ses où quand comment pourquoi quel quelle être ou mais été chez "
        "leur chaque tout tous toutes depuis fait je tu on mon ma mes notre votre vos moi toi suis as ont avait "
        "était très bien aussi comme si après sans sous entre même peut oui"
    ),
    "spanish": (
        "el la los las de que y en un una es por con para del se no su al lo como más pero sus le ya o "
        "este sí porque esta cuando dónde cuándo cómo qué quién está son hay entre muy sin sobre también "
        "cada desde hasta todos todas puede ser fue hace donde cuando yo mi tu me te nos muy bien tengo tiene era "
        "eso esto ese gracias"
    ),
    "portuguese": (
        "o a os as de que e do da em um uma é por com para não se na no dos das ao mais mas foi como são "
        "seu sua ou quando onde quem está pelo pela isso já também só nos às cada desde até todos todas "
        "pode ser toda todo"
    ),
    "italian": (
        "il lo gli di che è e la per un una in non sono con del della dei delle si da al alla come più ma "
        "anche nel nella questo questa quando dove chi perché quale sul sulla ha hanno essere viene ogni "
        "dal fino tutti tutte può ed mi ti io ho mio mia cosa bene era molto ci così"
    ),
    "dutch": (
        "de het een en van is dat niet te zijn op aan met voor er hij als ook maar om wij ze naar bij nog "
        "wordt worden door over waar wanneer wie hoe welke deze dit kan heeft uit geen"
    ),
    "danish": (
        "og i at det er en den til på de af for ikke med som der et har hvor hvornår hvem hvordan hvilken "
        "fra kan skal jeg vi bliver efter også eller være blev nogle noget"
    ),
    "norwegian": (
        "og i det er en den til på av for ikke med som et har hvor når hvem hvordan hvilken fra kan skal "
        "jeg vi blir etter også eller være ble noen noe ikkje hva"
    ),
    "swedish": (
        "och i att det är en den till på av för inte med som ett har var när vem hur vilken från kan ska "
        "jag vi blir efter också eller vara blev några något om de men"
    ),
    "finnish": (
        "ja on ei se että oli hän olla kun mutta niin kuin ovat tai joka myös missä milloin kuka miten "
        "mikä ole siitä tämä sen jos voi ovat"
    ),
    "hungarian": (
        "a az és hogy nem is egy ez van meg csak már mint de volt lehet mikor hol ki hogyan melyik vagy "
        "amely ha még minden után kell"
    ),
    "romanian": (
        "și în de la este nu că un o pe cu care din sunt mai pentru ce se unde când cine cum este sau dar "
        "această acest fi a-i ale lui"
    ),
    "turkish": (
        "ve bir bu için ile de da ne olarak daha çok gibi var kadar değil ama en o nerede zaman nasıl kim "
        "hangi mi mı veya olan sonra"
    ),
    "indonesian": (
        "yang dan di dengan untuk tidak ini dari dalam akan pada itu adalah ke atau oleh bisa kapan mana "
        "siapa bagaimana sudah juga saya kami"
    ),
    "catalan": (
        "el la els les de que i en un una és per amb del no es com més però on quan qui són aquest "
        "aquesta hi ha també dels pel cada des fins tots"
    ),
    "lithuanian": ("ir yra kad tai į iš su ar bet kaip ne apie nuo jis ji kur kada kas buvo taip gali"),
    "irish": ("agus an na is ar go le sé sí tá nach ach leis sin seo bhí conas cathain cá mar faoi"),
    "basque": ("eta da ez bat du dira hau izan zen den ere baina edo non noiz nor nola dute dela"),
    "polish": (
        "i w nie na się z do to jest że jak o co po ale od za przez gdzie kiedy kto czy dla są lub oraz który która"
    ),
    "czech": ("a v se na je že to s z do o i jako by pro ale kde kdy kdo jak jsou nebo byl není která který při"),
    "vietnamese": ("và của là có không được cho trong một những với các người khi này để đã ở nào đâu"),
    "croatian": ("i u je na se da za od su s ne kao što to ili ali gdje kada tko kako nije bio koja koji"),
    "russian": (
        "и в не на что с как это по но из для от так же у когда где или если был была было все к о при "
        "кто чем почему какой какая уже есть быть может после до"
    ),
    "bulgarian": ("и в не на се да са към ще още това за като беше със който която е от къде кога кой как или"),
}
_WITHOUT_CONFIGURATION = frozenset(("polish", "czech", "vietnamese", "croatian", "bulgarian"))

_SCRIPTS = (
    ("latin", "a-zA-Z\u00aa\u00ba\u00c0-\u024f\u1e00-\u1eff"),
    ("cyrillic", "\u0400-\u052f"),
    ("arabic", "\u0620-\u064a\u066e-\u06d3"),
    ("greek", "\u0370-\u03ff\u1f00-\u1fff"),
    ("hebrew", "\u05d0-\u05ea"),
    ("devanagari", "\u0904-\u0939"),
    ("tamil", "\u0b80-\u0bff"),
    ("armenian", "\u0530-\u058f"),
)
_LETTERS = {name: re.compile(f"[{letters}]") for name, letters in _SCRIPTS}
_OTHER_LETTERS = re.compile(f"[^\\W\\d_{''.join(letters for _, letters in _SCRIPTS)}]")

# Letters that a script's main language does not have.
_PERSIAN_OR_URDU = re.compile("[پچژگکیےٹڈڑں]")
_UKRAINIAN_OR_BELARUSIAN = re.compile("[іїєґўІЇЄҐЎ]")
_SERBIAN = re.compile("[ђјљњћџЂЈЉЊЋЏ]")
_NEPALI = re.compile("छ|हरू|गर्न")
_YIDDISH = re.compile("\u05f0|\u05f1|\u05f2|אַ|אָ|\\b(און|איז|די|דער)\\b")


def question_language(text: str) -> str | None:
    """The language that a question is certainly in, whose small words say nothing; None where it does not show."""
    seen = configuration_of(text)
    return None if seen == SIMPLE else seen


@cache
def small_words(language: str | None) -> frozenset[str]:
    """Words of a language that say nothing in a question; its configuration does not know all of them."""
    words = _SMALL_WORDS.get(language or "", "")
    return frozenset() if language == ENGLISH else frozenset(words.split())


def configuration_of(text: str) -> str | None:
    """The configuration that script and small words of a text show; None where those of a Latin text show nothing."""
    shown = text[:_LOOKED_AT_CHARS]
    if shown.isascii():
        return _by_small_words(shown)
    counts = {name: len(letters.findall(shown)) for name, letters in _LETTERS.items()}
    counts["other"] = 3 * len(_OTHER_LETTERS.findall(shown))  # each is a syllable or a word
    script = max(counts, key=counts.__getitem__)
    if script == "latin":
        return _by_small_words(shown)
    return _by_script(script, shown)


def _by_script(script: str, text: str) -> str:
    match script:
        case "cyrillic":
            return _cyrillic(text)
        case "arabic":
            return SIMPLE if _PERSIAN_OR_URDU.search(text) else "arabic"
        case "hebrew":
            return "yiddish" if _YIDDISH.search(text) else SIMPLE
        case "devanagari":
            return "nepali" if _NEPALI.search(text) else "hindi"
        case "greek" | "tamil" | "armenian":
            return script
        case _:
            return SIMPLE


def _cyrillic(text: str) -> str:
    if _UKRAINIAN_OR_BELARUSIAN.search(text):
        return SIMPLE
    if _SERBIAN.search(text):
        return "serbian"
    return _by_small_words(text) or "russian"


def _by_small_words(text: str) -> str | None:
    """The language with the most small words; None where two have as many, or none has any.

    A word that several languages have says as much less.
    """
    table, counted = _languages_of(), Counter(_LETTER_RUNS.findall(text.lower()))
    found: dict[str, float] = {}
    known = counted.keys() & table.keys()
    for word in known:
        for language in table[word]:
            found[language] = found.get(language, 0.0) + counted[word] / len(table[word])
    best = max(found, key=found.__getitem__, default=None)
    if best is None or any(abs(found[best] - of) < 1e-9 for language, of in found.items() if language != best):
        return None
    if best != ENGLISH and text.isascii() and sum(best in table[word] for word in known) < _ENOUGH_IN_ASCII:
        return None
    return SIMPLE if best in _WITHOUT_CONFIGURATION else best


@cache
def _languages_of() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for language, words in _SMALL_WORDS.items():
        for word in set(_LETTER_RUNS.findall(words)):
            found.setdefault(word, []).append(language)
    return found
