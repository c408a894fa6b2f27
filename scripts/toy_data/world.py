"""The small world that the toy data talks about: things, opposites, verbs, topics; and portable random draws."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """Random choices that are the same on every Python version.

    Python promises a stable sequence for `Random.random` only, not for `choice`, `sample` or `shuffle`,
    so everything here is made from `random()`.

    Args:
        seed: An integer that fixes the whole sequence.

    Example:
        >>> draw = Draw(0)
        >>> [draw.below(10) for _ in range(5)]
        [8, 7, 4, 2, 5]
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def below(self, n: int) -> int:
        """Return an integer in [0, n)."""
        return int(self._random() * n)

    def choice(self, items: Sequence[T]) -> T:
        """Return one of the items."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return the items in a random order (Fisher and Yates)."""
        result = list(items)
        for i in range(len(result) - 1, 0, -1):
            j = self.below(i + 1)
            result[i], result[j] = result[j], result[i]
        return result

    def sample(self, items: Sequence[T], k: int) -> list[T]:
        """Return k different items."""
        return self.shuffled(items)[:k]


@dataclass(frozen=True)
class Thing:
    """A countable thing and what the toy world knows about it."""

    name: str
    plural: str
    kind: str
    colour: str
    place: str
    ability: str  # what follows "It can"


def _things(kind: str, table: str) -> tuple[Thing, ...]:
    rows = (line.split("/") for line in table.strip().splitlines())
    return tuple(
        Thing(name.strip(), plural.strip(), kind, colour.strip(), place.strip(), ability.strip())
        for name, plural, colour, place, ability in rows
    )


KINDS = ("animal", "fruit", "tool", "vehicle", "garment", "instrument")

THINGS: tuple[Thing, ...] = (
    *_things(
        "animal",
        """
        cat / cats / grey / in a house / catch a mouse
        dog / dogs / brown / in a garden / guard a house
        bird / birds / blue / in a tree / sing and fly
        horse / horses / brown / on a farm / carry a man
        goose / geese / white / near a lake / swim and fly
        mouse / mice / grey / in a house / hide in a hole
        wolf / wolves / grey / in a forest / run all night
        owl / owls / brown / in a tree / see at night
        """,
    ),
    *_things(
        "fruit",
        """
        apple / apples / red / in a tree / make a cake sweet
        pear / pears / green / in a garden / make a cake soft
        lemon / lemons / yellow / in a kitchen / make a drink sour
        cherry / cherries / red / in a tree / make a drink sweet
        plum / plums / blue / in a garden / make a cake sweet
        peach / peaches / orange / in a kitchen / make a drink sweet
        banana / bananas / yellow / in a kitchen / make a cake soft
        grape / grapes / green / on a farm / make a drink sweet
        """,
    ),
    *_things(
        "tool",
        """
        hammer / hammers / grey / in a workshop / break a stone
        knife / knives / grey / in a kitchen / cut bread
        brush / brushes / yellow / in a workshop / paint a house
        spade / spades / brown / in a garden / make a hole
        axe / axes / grey / in a forest / cut wood
        ladder / ladders / white / in a workshop / reach a tree
        broom / brooms / yellow / in a kitchen / clean the floor
        rake / rakes / green / in a garden / clean the grass
        """,
    ),
    *_things(
        "vehicle",
        """
        bus / buses / red / on a road / carry many people
        car / cars / blue / on a road / carry a family
        train / trains / green / near a town / carry many people
        boat / boats / white / near a lake / cross the water
        truck / trucks / orange / on a road / carry stone and wood
        tram / trams / yellow / near a town / cross the town
        bike / bikes / black / on a road / carry a man
        ferry / ferries / white / near a lake / cross the water
        """,
    ),
    *_things(
        "garment",
        """
        hat / hats / black / in a house / keep your head warm
        coat / coats / brown / in a house / keep you dry
        scarf / scarves / red / in a shop / keep you warm
        glove / gloves / white / in a shop / keep your hand warm
        shirt / shirts / blue / in a shop / keep you warm
        dress / dresses / green / in a shop / look good
        sock / socks / grey / in a house / keep your foot warm
        boot / boots / black / in a shop / keep your foot dry
        """,
    ),
    *_things(
        "instrument",
        """
        piano / pianos / black / in a school / make quiet music
        violin / violins / brown / on a stage / make sweet music
        drum / drums / red / on a stage / make loud music
        flute / flutes / white / in a school / make soft music
        guitar / guitars / orange / on a stage / make good music
        harp / harps / yellow / on a stage / make soft music
        trumpet / trumpets / yellow / in a school / make loud music
        bell / bells / grey / near a town / make loud music
        """,
    ),
)

# What is to be sorted. The order of all the names would be too much for a model of this size.
SORTABLE: tuple[str, ...] = tuple(thing.name for thing in THINGS if thing.kind in ("animal", "fruit"))

COLOURS: tuple[str, ...] = tuple(dict.fromkeys(thing.colour for thing in THINGS))

_PAIRS = """
hot cold, big small, fast slow, happy sad, open closed, old new, light dark, wet dry, hard soft, full empty, high low,
early late, rich poor, strong weak, loud quiet, near far, long short, clean dirty, thick thin, true false, sweet sour,
good bad, wide narrow, smooth rough
"""
_WAYS = tuple((a, b) for a, b in (pair.split() for pair in _PAIRS.split(",")))
# Each pair in both directions.
OPPOSITES: tuple[tuple[str, str], ...] = _WAYS + tuple((b, a) for a, b in _WAYS)

_VERBS = """
walk walked, jump jumped, cook cooked, paint painted, play played, look looked, talk talked, wash washed, help helped,
clean cleaned, go went, eat ate, see saw, run ran, sing sang, write wrote, drink drank, swim swam, give gave,
take took, make made, come came, find found, buy bought, bring brought, sleep slept, fly flew, draw drew, sit sat,
drive drove
"""
VERBS: tuple[tuple[str, str], ...] = tuple((now, past) for now, past in (pair.split() for pair in _VERBS.split(",")))

COMMANDS = ("bring me", "show me", "give me", "hold", "clean", "find", "take", "draw", "paint", "buy")

PEOPLE = ("Anna", "Ben", "Clara", "David", "Emma", "Frank")

TIPS: dict[str, tuple[str, ...]] = {
    "sleep": ("Go to bed early.", "Keep the house dark and quiet.", "Do not eat late.", "Read a short book in bed."),
    "cooking": ("Use a clean knife.", "Taste the food often.", "Wash your hands first.", "Start with a small cake."),
    "reading": ("Find a quiet place.", "Read every day.", "Start with a short book.", "Talk about the book."),
    "running": ("Start slow.", "Keep your foot dry.", "Drink water often.", "Run with a friend every day."),
    "gardens": ("Use a good spade.", "Give water every day.", "Start early in the day.", "Clean the grass often."),
    "painting": ("Use a soft brush.", "Start with a light colour.", "Look for a long time.", "Paint every day."),
    "money": ("Buy only what you need.", "Keep a little every day.", "Walk or take the bus.", "Cook your own food."),
    "travel": ("Take a small bag.", "Buy the ticket early.", "Keep a warm coat near you.", "Talk to many people."),
}

NUMBER_WORDS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}


def a(noun: str) -> str:
    """Put the indefinite article before a noun of the toy world.

    Example:
        >>> a("owl"), a("cat")
        ('an owl', 'a cat')
    """
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"


def capital(text: str) -> str:
    """Return the text with its first letter in upper case and the rest as it was.

    Example:
        >>> capital("an owl")
        'An owl'
    """
    return text[0].upper() + text[1:]


def question(draw: Draw) -> tuple[str, str, bool]:
    """Draw a subject ("a cat"), what is said of it ("a fruit" or "grey"), and whether that is true."""
    thing = draw.choice(THINGS)
    about_kind = draw.below(2) == 0
    right = thing.kind if about_kind else thing.colour
    # Half of the sayings are true: drawn from all values, "no" would nearly always be right.
    said = right if draw.below(2) == 0 else draw.choice([x for x in (KINDS if about_kind else COLOURS) if x != right])
    return a(thing.name), a(said) if about_kind else said, said == right


def odd_one(draw: Draw) -> tuple[list[str], Thing, str]:
    """Draw two things of one kind and one of another kind.

    Returns:
        The three names in random order, the thing that does not belong, and the kind of the other two.
    """
    kind, other = draw.sample(KINDS, 2)
    pair = draw.sample([thing for thing in THINGS if thing.kind == kind], 2)
    odd = draw.choice([thing for thing in THINGS if thing.kind == other])
    return draw.shuffled([thing.name for thing in (*pair, odd)]), odd, kind


def description(draw: Draw, thing: Thing, details: int) -> str:
    """Compose 1 + `details` sentences about a thing; `details` is at most 3."""
    facts = [f"It is often {thing.colour}.", f"You can find it {thing.place}.", f"It can {thing.ability}."]
    chosen = draw.sample(facts, details)
    return " ".join([f"{capital(a(thing.name))} is {a(thing.kind)}.", *(fact for fact in facts if fact in chosen)])


def story(draw: Draw, thing: Thing) -> str:
    """Compose a story of three or four sentences about a thing."""
    who, friend = draw.sample(PEOPLE, 2)
    middle = draw.choice(
        (
            f"The {thing.name} was {thing.colour}.",
            f"It was {draw.choice(('old', 'new', 'big', 'small', 'dirty', 'clean'))} and {thing.colour}.",
            f"The {thing.name} was {thing.colour}. It could {thing.ability}.",
        )
    )
    end = draw.choice((f"{who} was happy.", f"{friend} came to see it.", f"{who} gave it to {friend}."))
    return f"One day, {who} found {a(thing.name)} {thing.place}. {middle} {end}"


def advice(draw: Draw, topic: str, n: int) -> str:
    """Compose n sentences of advice about a topic."""
    return " ".join(draw.sample(TIPS[topic], n))
