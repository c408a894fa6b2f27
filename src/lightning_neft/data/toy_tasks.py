"""The kinds of toy instruction: for each its phrasings and how a request and its answer are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lightning_neft.data.toy_world import (
    COMMANDS,
    KINDS,
    NUMBER_WORDS,
    OPPOSITES,
    SORTABLE,
    THINGS,
    TIPS,
    VERBS,
    Draw,
    a,
    advice,
    capital,
    description,
    odd_one,
    question,
    story,
)

Filled = tuple[dict[str, str], str]


@dataclass(frozen=True)
class Task:
    """One kind of request.

    Attributes:
        kind: Its name.
        closed: Whether exactly one answer is right, so that an exact match can be counted.
        phrasings: Formats, `instruction|input`; what follows the bar is the record's input and may be empty.
        fill: Draws the slots of a phrasing and the answer that belongs to them.
    """

    kind: str
    closed: bool
    phrasings: tuple[str, ...]
    fill: Callable[[Draw], Filled]

    def record(self, draw: Draw) -> dict[str, str]:
        """Draw one record with the keys instruction, input and output."""
        slots, output = self.fill(draw)
        instruction, _, given = draw.choice(self.phrasings).partition("|")
        return {"instruction": instruction.format(**slots), "input": given.format(**slots), "output": output}


def _opposite(draw: Draw) -> Filled:
    word, other = draw.choice(OPPOSITES)
    return {"x": word}, other


def _category(draw: Draw) -> Filled:
    thing = draw.choice(THINGS)
    return {"x": thing.name, "a_x": a(thing.name)}, thing.kind


def _colour(draw: Draw) -> Filled:
    thing = draw.choice(THINGS)
    return {"x": thing.name, "a_x": a(thing.name)}, thing.colour


def _plural(draw: Draw) -> Filled:
    thing = draw.choice(THINGS)
    return {"x": thing.name}, thing.plural


def _past(draw: Draw) -> Filled:
    now, past = draw.choice(VERBS)
    return {"x": now}, past


def _letters(draw: Draw) -> Filled:
    name = draw.choice(THINGS).name
    return {"x": name}, str(len(name))


def _names(draw: Draw, n: int) -> list[str]:
    return [thing.name for thing in draw.sample(THINGS, n)]


def _sort(draw: Draw) -> Filled:
    names = draw.sample(SORTABLE, 3)
    return {"x": ", ".join(names)}, ", ".join(sorted(names))


def _reverse(draw: Draw) -> Filled:
    names = _names(draw, 3)
    return {"x": ", ".join(names)}, ", ".join(names[::-1])


def _count(draw: Draw) -> Filled:
    names = _names(draw, 2 + draw.below(4))
    return {"x": ", ".join(names)}, str(len(names))


def _first(draw: Draw) -> Filled:
    names = _names(draw, 3 + draw.below(3))
    return {"x": ", ".join(names)}, names[0]


def _last(draw: Draw) -> Filled:
    names = _names(draw, 3 + draw.below(3))
    return {"x": ", ".join(names)}, names[-1]


def _odd(draw: Draw) -> Filled:
    names, odd, _ = odd_one(draw)
    return {"x": ", ".join(names)}, odd.name


def _add(draw: Draw) -> Filled:
    x, y = 1 + draw.below(10), 1 + draw.below(5)
    return {"x": str(x), "y": str(y)}, str(x + y)


def _larger(draw: Draw) -> Filled:
    x, y = draw.sample(range(1, 11), 2)
    return {"x": str(x), "y": str(y)}, str(max(x, y))


def _polite(draw: Draw) -> Filled:
    request = f"{draw.choice(COMMANDS)} the {draw.choice(THINGS).name}"
    return {"x": f"{capital(request)}."}, f"Could you please {request}?"


def _yes_no(draw: Draw) -> Filled:
    subject, said, true = question(draw)
    answer = f"Yes, {subject} is {said}." if true else f"No, {subject} is not {said}."
    return {"x": f"{subject} {said}", "said": f"{capital(subject)} is {said}."}, answer


def _describe(draw: Draw) -> Filled:
    thing = draw.choice(THINGS)
    how, details = draw.choice((("", 1), ("", 2), ("", 3), (" briefly", 0), (" in detail", 3)))
    return {"x": thing.name, "a_x": a(thing.name), "how": how}, description(draw, thing, details)


def _story(draw: Draw) -> Filled:
    thing = draw.choice(THINGS)
    return {"x": thing.name, "a_x": a(thing.name)}, story(draw, thing)


def _tips(draw: Draw) -> Filled:
    topic = draw.choice(tuple(TIPS))
    n = 1 + draw.below(3)
    return {"x": topic, "n": NUMBER_WORDS[n], "tips": "tip" if n == 1 else "tips"}, advice(draw, topic, n)


def _list(draw: Draw) -> Filled:
    kind = draw.choice(KINDS)
    n = 2 + draw.below(3)
    members = draw.sample([thing.name for thing in THINGS if thing.kind == kind], n)
    return {"x": f"{kind}s", "n": NUMBER_WORDS[n]}, ", ".join(members)


TASKS: tuple[Task, ...] = (
    Task(
        "opposite",
        True,
        (
            "What is the opposite of {x}?|",
            "Give the opposite of the word.|{x}",
            "Write a word that means the opposite of {x}.|",
            "Name the opposite.|{x}",
        ),
        _opposite,
    ),
    Task(
        "category",
        True,
        (
            "What kind of thing is {a_x}?|",
            "Name the kind of thing.|{x}",
            "To which kind does this word belong?|{x}",
            "Say what kind of thing {a_x} is.|",
        ),
        _category,
    ),
    Task(
        "colour",
        True,
        (
            "What colour is {a_x}?|",
            "Name the colour of {a_x}.|",
            "What is the colour of this thing?|{x}",
            "Give the colour.|{x}",
        ),
        _colour,
    ),
    Task(
        "plural",
        True,
        (
            "What is the plural of {x}?|",
            "Write the plural of the word.|{x}",
            "Give the plural.|{x}",
            "What do you call more than one {x}?|",
        ),
        _plural,
    ),
    Task(
        "past",
        True,
        (
            "What is the past of {x}?|",
            "Write the verb in the past.|{x}",
            "Give the past form of {x}.|",
            "Put this word in the past.|{x}",
            "How do you write {x} in the past?|",
        ),
        _past,
    ),
    Task(
        "letters",
        True,
        (
            "How many letters are in the word {x}?|",
            "Count the letters of the word.|{x}",
            "How many letters does this word have?|{x}",
            "Say how many letters {x} has.|",
        ),
        _letters,
    ),
    Task(
        "sort",
        True,
        (
            "Sort the words.|{x}",
            "Put these words in the order of the alphabet.|{x}",
            "Sort the list from a to z.|{x}",
            "Sort these words: {x}|",
        ),
        _sort,
    ),
    Task(
        "reverse",
        True,
        (
            "Write the list backwards.|{x}",
            "Reverse the words.|{x}",
            "Reverse the order of the list.|{x}",
            "Write these words backwards: {x}|",
        ),
        _reverse,
    ),
    Task(
        "count",
        True,
        (
            "How many words are in the list?|{x}",
            "Count the words.|{x}",
            "How many words are here: {x}|",
            "Say how many words there are.|{x}",
        ),
        _count,
    ),
    Task(
        "first",
        True,
        (
            "What is the first word?|{x}",
            "Give the first word of the list.|{x}",
            "Write only the first word: {x}|",
            "Which word comes first?|{x}",
        ),
        _first,
    ),
    Task(
        "last",
        True,
        (
            "What is the last word?|{x}",
            "Give the last word of the list.|{x}",
            "Write only the last word: {x}|",
            "Which word comes last?|{x}",
        ),
        _last,
    ),
    Task(
        "odd_one_out",
        True,
        (
            "Which word does not belong?|{x}",
            "Find the odd word.|{x}",
            "Which of these does not belong: {x}|",
            "Name the odd word in the list.|{x}",
        ),
        _odd,
    ),
    Task(
        "add",
        True,
        ("What is {x} + {y}?|", "Add the numbers.|{x} + {y}", "Add {x} and {y}.|", "How much is this?|{x} + {y}"),
        _add,
    ),
    Task(
        "larger",
        True,
        (
            "Which number is larger, {x} or {y}?|",
            "Name the larger number.|{x}, {y}",
            "Give the larger of {x} and {y}.|",
            "Which is more?|{x} or {y}",
        ),
        _larger,
    ),
    Task(
        "polite",
        True,
        (
            "Make the sentence polite.|{x}",
            "Say this in a polite way.|{x}",
            "Write a polite question.|{x}",
            "Make this polite: {x}|",
        ),
        _polite,
    ),
    Task(
        "yes_no",
        True,
        ("Is {x}?|", "Answer yes or no.|Is {x}?", "Is this true?|{said}", "True or false? {said}|"),
        _yes_no,
    ),
    Task(
        "describe",
        False,
        (
            "Describe {a_x}{how}.|",
            "Describe this thing{how}.|{x}",
            "Tell me about {a_x}{how}.|",
            "Explain{how} what {a_x} is.|",
        ),
        _describe,
    ),
    Task(
        "story",
        False,
        (
            "Write a short story about {a_x}.|",
            "Tell a story with this word.|{x}",
            "Tell me a story about {a_x}.|",
            "Write a story.|{x}",
        ),
        _story,
    ),
    Task(
        "tips",
        False,
        (
            "Give {n} {tips} about {x}.|",
            "Write {n} short {tips} about {x}.|",
            "Tell me {n} {tips} about {x}.|",
            "Give me {n} {tips}.|{x}",
            "I need {n} {tips} about {x}.|",
            "Help me with {n} {tips}.|{x}",
        ),
        _tips,
    ),
    Task(
        "list",
        False,
        (
            "Name {n} {x}.|",
            "List {n} {x}.|",
            "Give me {n} {x}.|",
            "Write {n} {x}.|",
            "Tell me {n} {x}.|",
            "Which {n} {x} do you know?|",
            "Name {n} of this kind.|{x}",
            "Write a list of {n}.|{x}",
        ),
        _list,
    ),
)
