"""Plain prose over the toy world: what the tiny base model is pretrained on, in no instruction template."""

from __future__ import annotations

from collections.abc import Callable, Iterator

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

# Many answers stand in quotation marks, because there a word has no space before it, as at the start of a response;
# a byte-level tokenizer has different tokens for the two, and the base has to know both.


def _opposite(draw: Draw) -> str:
    word, other = draw.choice(OPPOSITES)
    return draw.choice(
        (
            f"The opposite of {word} is {other}.",
            f'The opposite of "{word}" is "{other}".',
            f"What is not {word} is {other}.",
        )
    )


def _thing(draw: Draw) -> str:
    thing = draw.choice(THINGS)
    subject = a(thing.name)
    wrong = draw.choice([kind for kind in KINDS if kind != thing.kind])
    return draw.choice(
        (
            f'The kind of "{thing.name}" is "{thing.kind}".',
            f'The colour of {subject} is "{thing.colour}".',
            f"The colour of {subject} is {thing.colour}.",
            f"{capital(subject)} is {thing.colour}.",
            f"{capital(subject)} is {a(thing.kind)}, it is not {a(wrong)}.",
            f'The plural of "{thing.name}" is "{thing.plural}".',
            f"One {thing.name}, many {thing.plural}.",
            f'The word "{thing.name}" has {len(thing.name)} letters.',
            f'The letters of {thing.name} number "{len(thing.name)}".',
        )
    )


def _past(draw: Draw) -> str:
    now, past = draw.choice(VERBS)
    who = draw.choice(("Anna", "Ben", "they", "we"))
    return draw.choice(
        (f'The past of "{now}" is "{past}".', f"Every day they {now}, and one day {who} {past}.", f"{now}, {past}.")
    )


def _sort(draw: Draw) -> str:
    names = draw.sample(SORTABLE, 2 + draw.below(2))
    return f'From a to z, "{", ".join(names)}" becomes "{", ".join(sorted(names))}".'


def _reverse(draw: Draw) -> str:
    names = [thing.name for thing in draw.sample(THINGS, 2 + draw.below(2))]
    return f'Backwards, "{", ".join(names)}" becomes "{", ".join(names[::-1])}".'


def _list_facts(draw: Draw) -> str:
    names = [thing.name for thing in draw.sample(THINGS, 2 + draw.below(4))]
    facts = (
        f'"{len(names)}" words are there',
        f'"{names[0]}" is the first word',
        f'"{names[-1]}" is the last word',
    )
    return f'In the list "{", ".join(names)}", {" and ".join(draw.sample(facts, 2))}.'


def _odd(draw: Draw) -> str:
    names, odd, kind = odd_one(draw)
    return f'Of "{", ".join(names)}", the odd word is "{odd.name}": {a(odd.name)} is not {a(kind)}.'


def _numbers(draw: Draw) -> str:
    x, y = 1 + draw.below(10), 1 + draw.below(5)
    more, less = sorted(draw.sample(range(1, 11), 2), reverse=True)
    left, right = draw.shuffled((more, less))
    return draw.choice(
        (
            f"{x} + {y} = {x + y}.",
            f'{x} and {y} make "{x + y}".',
            f'"{x} + {y}" is "{x + y}".',
            f'Of {left} and {right}, the larger number is "{more}".',
            f"{more} is larger than {less}.",
        )
    )


def _question(draw: Draw) -> str:
    subject, said, true = question(draw)
    if true:
        return f'Who asks "Is {subject} {said}?" hears "Yes, {subject} is {said}."'
    return f'Who asks "Is {subject} {said}?" hears "No, {subject} is not {said}."'


def _polite(draw: Draw) -> str:
    request = f"{draw.choice(COMMANDS)} the {draw.choice(THINGS).name}"
    return f'"{capital(request)}." is not polite, but "Could you please {request}?" is.'


def _description(draw: Draw) -> str:
    return description(draw, draw.choice(THINGS), draw.below(4))


def _story(draw: Draw) -> str:
    return story(draw, draw.choice(THINGS))


def _advice(draw: Draw) -> str:
    topic = draw.choice(tuple(TIPS))
    n = 1 + draw.below(3)
    return f"Here {'is' if n == 1 else 'are'} {NUMBER_WORDS[n]} about {topic}: {advice(draw, topic, n)}"


def _members(draw: Draw) -> str:
    kind = draw.choice(KINDS)
    n = 2 + draw.below(3)
    names = draw.sample([thing.name for thing in THINGS if thing.kind == kind], n)
    return f'Some {kind}s are "{", ".join(names)}"; those are {NUMBER_WORDS[n]} {kind}s.'


# A kind of statement that is hard to learn stands here more than once.
_STATEMENTS: tuple[Callable[[Draw], str], ...] = (
    _opposite,
    _opposite,
    _thing,
    _thing,
    _thing,
    _thing,
    _past,
    _sort,
    _sort,
    _reverse,
    _reverse,
    _list_facts,
    _list_facts,
    _list_facts,
    _odd,
    _odd,
    _question,
    _question,
    _numbers,
    _numbers,
    _polite,
    _description,
    _story,
    _advice,
    _members,
)


def toy_text(seed: int, n: int) -> Iterator[str]:
    """Yield n short documents of plain statements about the toy world.

    Args:
        seed: Fixes all of them; the same on every Python version.
        n: How many documents.

    Example:
        >>> next(toy_text(seed=1, n=1))[:43]
        'A shirt is a garment. It can keep you warm.'
    """
    draw = Draw(seed)
    for _ in range(n):
        statements = [draw.choice(_STATEMENTS)(draw) for _ in range(3 + draw.below(4))]
        yield draw.choice((" ", "\n")).join(statements)
