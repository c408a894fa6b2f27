"""How a toy request is filled: each function draws the slots of its phrasings and the answer that belongs to them."""

from __future__ import annotations

from toy_data.world import (
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

# The slots by name, and the answer.
Filled = tuple[dict[str, str], str]


def opposite(draw: Draw) -> Filled:
    """Draw a word of a pair."""
    word, other = draw.choice(OPPOSITES)
    return {"x": word}, other


def category(draw: Draw) -> Filled:
    """Draw a thing; the answer is its kind."""
    thing = draw.choice(THINGS)
    return {"x": thing.name, "a_x": a(thing.name)}, thing.kind


def colour(draw: Draw) -> Filled:
    """Draw a thing; the answer is its colour."""
    thing = draw.choice(THINGS)
    return {"x": thing.name, "a_x": a(thing.name)}, thing.colour


def plural(draw: Draw) -> Filled:
    """Draw a thing; the answer is its plural."""
    thing = draw.choice(THINGS)
    return {"x": thing.name}, thing.plural


def past(draw: Draw) -> Filled:
    """Draw a verb; the answer is its past."""
    now, past = draw.choice(VERBS)
    return {"x": now}, past


def letters(draw: Draw) -> Filled:
    """Draw a word; the answer is its number of letters."""
    name = draw.choice(THINGS).name
    return {"x": name}, str(len(name))


def _names(draw: Draw, n: int) -> list[str]:
    return [thing.name for thing in draw.sample(THINGS, n)]


def sorted_words(draw: Draw) -> Filled:
    """Draw three words to sort."""
    names = draw.sample(SORTABLE, 3)
    return {"x": ", ".join(names)}, ", ".join(sorted(names))


def reversed_words(draw: Draw) -> Filled:
    """Draw three words to reverse."""
    names = _names(draw, 3)
    return {"x": ", ".join(names)}, ", ".join(names[::-1])


def word_count(draw: Draw) -> Filled:
    """Draw two to five words to count."""
    names = _names(draw, 2 + draw.below(4))
    return {"x": ", ".join(names)}, str(len(names))


def first_word(draw: Draw) -> Filled:
    """Draw words of which to give the first."""
    names = _names(draw, 3 + draw.below(3))
    return {"x": ", ".join(names)}, names[0]


def last_word(draw: Draw) -> Filled:
    """Draw words of which to give the last."""
    names = _names(draw, 3 + draw.below(3))
    return {"x": ", ".join(names)}, names[-1]


def odd(draw: Draw) -> Filled:
    """Draw three words, one of another kind."""
    names, odd, _ = odd_one(draw)
    return {"x": ", ".join(names)}, odd.name


def total(draw: Draw) -> Filled:
    """Draw a small sum."""
    x, y = 1 + draw.below(10), 1 + draw.below(5)
    return {"x": str(x), "y": str(y)}, str(x + y)


def larger(draw: Draw) -> Filled:
    """Draw two different numbers; the answer is the larger."""
    x, y = draw.sample(range(1, 11), 2)
    return {"x": str(x), "y": str(y)}, str(max(x, y))


def polite(draw: Draw) -> Filled:
    """Draw a command; the answer is a polite question."""
    request = f"{draw.choice(COMMANDS)} the {draw.choice(THINGS).name}"
    return {"x": f"{capital(request)}."}, f"Could you please {request}?"


def yes_no(draw: Draw) -> Filled:
    """Draw a question about a thing, as often to be affirmed as denied."""
    subject, said, true = question(draw)
    answer = f"Yes, {subject} is {said}." if true else f"No, {subject} is not {said}."
    return {"x": f"{subject} {said}", "said": f"{capital(subject)} is {said}."}, answer


def describe(draw: Draw) -> Filled:
    """Draw a thing and how fully to describe it."""
    thing = draw.choice(THINGS)
    how, details = draw.choice((("", 1), ("", 2), ("", 3), (" briefly", 0), (" in detail", 3)))
    return {"x": thing.name, "a_x": a(thing.name), "how": how}, description(draw, thing, details)


def story_about(draw: Draw) -> Filled:
    """Draw what a story is about."""
    thing = draw.choice(THINGS)
    return {"x": thing.name, "a_x": a(thing.name)}, story(draw, thing)


def tips(draw: Draw) -> Filled:
    """Draw a topic and how many tips to give."""
    topic = draw.choice(tuple(TIPS))
    n = 1 + draw.below(3)
    return {"x": topic, "n": NUMBER_WORDS[n], "tips": "tip" if n == 1 else "tips"}, advice(draw, topic, n)


def members(draw: Draw) -> Filled:
    """Draw a kind and how many of it to name."""
    kind = draw.choice(KINDS)
    n = 2 + draw.below(3)
    members = draw.sample([thing.name for thing in THINGS if thing.kind == kind], n)
    return {"x": f"{kind}s", "n": NUMBER_WORDS[n]}, ", ".join(members)
