"""A made-up dialogue between friends: what happened to whom, said in passing among small talk, asked for later."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

PEOPLE = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Hugo")
MONTHS = ("January", "March", "May", "July", "October")
EVENTS = 800
ASKED = 200
SMALL_TALK_ALONE = 700
OTHER_NAME = 0.4
"""How often a question calls a thing by another name than the turn does."""

# What is said, and what is asked about it. Each thing comes up with many people, each of them with many things.
_EVENTS: Sequence[tuple[str, str]] = (
    ("I finally took the {a} to the {b} yesterday.", "What did {who} do with the {a}?"),
    ("My sister gave me a {a} with a {b} on it.", "Who gave {who} a {a}?"),
    ("We spent the whole weekend looking for a {a} near the {b}.", "When did {who} look for a {a}?"),
    ("I started a class about the {a}, and the teacher brought a {b}.", "Which class did {who} start about the {a}?"),
    ("There was a {a} in the {b} this morning, I could not believe it.", "Where did {who} see the {a}?"),
    ("I want to write about the {a} and the {b} next year.", "What does {who} plan to write about the {a}?"),
    ("The doctor said that the {a} has to do with my {b}.", "What did the doctor tell {who} about the {a}?"),
    ("I sold my {a} and bought a {b} instead.", "What did {who} buy instead of the {a}?"),
    ("Our neighbour's {a} broke the {b}, so now we are fixing it.", "How did {who}'s neighbour break the {b}?"),
    ("I dreamt of a {a} on top of a {b} again.", "What was {who}'s dream with the {b} about?"),
    ("Dad taught me how a {a} is made out of a {b}.", "Who taught {who} to make a {a}?"),
    ("I am so proud of the {a} that I painted next to the {b}.", "What has {who} painted next to the {b}?"),
)

_SMALL_TALK: Sequence[str] = (
    "Hey {other}, how have you been?",
    "That's so cool, tell me more!",
    "Haha, classic you.",
    "Wow, congratulations {other}!",
    "I'm sorry to hear that, let me know if you need anything.",
    "Sounds like a plan, see you then!",
    "It's been such a long week, I need a break.",
    "What are you up to this weekend, {other}?",
    "Thanks {other}, that means a lot to me.",
    "I was just thinking about that.",
    "Yeah, I totally get it, take it one day at a time.",
    "Did you finish that thing you told me about?",
    "The weather has been awful here, rain all day.",
    "Good luck, {other}, and keep me posted.",
    "I wish I had your energy.",
    "By the way, when did that happen?",
)


def dialogue(
    choose: random.Random, things: Sequence[str], synonyms: Mapping[str, Sequence[str]]
) -> list[tuple[str | None, str]]:
    """(Question, turn) of some events, and turns that nobody asks about."""
    pairs: list[tuple[str | None, str]] = []
    for number in range(EVENTS):
        said, question = choose.choice(_EVENTS)
        who, one, other = choose.choice(PEOPLE), *choose.sample(things, 2)
        talk = [choose.choice(_SMALL_TALK) for _ in range(choose.randint(0, 3))]
        talk.insert(choose.randint(0, len(talk)), said.format(a=one, b=other))
        names = {
            place: choose.choice(synonyms[thing]) if choose.random() < OTHER_NAME else thing
            for place, thing in (("a", one), ("b", other))
        }
        pairs.append((question.format(who=who, **names) if number < ASKED else None, _turn(choose, who, talk)))
    pairs.extend(
        (None, _turn(choose, choose.choice(PEOPLE), choose.sample(_SMALL_TALK, choose.randint(1, 3))))
        for _ in range(SMALL_TALK_ALONE)
    )
    return pairs


def _turn(choose: random.Random, who: str, talk: Sequence[str]) -> str:
    day = f"{choose.randint(1, 28)} {choose.choice(MONTHS)} 2023"
    other = choose.choice([person for person in PEOPLE if person != who])
    return f"{who} ({day}): {' '.join(talk).format(other=other)}"
