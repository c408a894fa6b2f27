"""The kinds of toy instruction: for each its name, its phrasings, and how they are filled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from toy_data import answers
from toy_data.answers import Filled
from toy_data.world import Draw


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
        answers.opposite,
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
        answers.category,
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
        answers.colour,
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
        answers.plural,
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
        answers.past,
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
        answers.letters,
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
        answers.sorted_words,
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
        answers.reversed_words,
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
        answers.word_count,
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
        answers.first_word,
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
        answers.last_word,
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
        answers.odd,
    ),
    Task(
        "add",
        True,
        ("What is {x} + {y}?|", "Add the numbers.|{x} + {y}", "Add {x} and {y}.|", "How much is this?|{x} + {y}"),
        answers.total,
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
        answers.larger,
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
        answers.polite,
    ),
    Task(
        "yes_no",
        True,
        ("Is {x}?|", "Answer yes or no.|Is {x}?", "Is this true?|{said}", "True or false? {said}|"),
        answers.yes_no,
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
        answers.describe,
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
        answers.story_about,
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
        answers.tips,
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
        answers.members,
    ),
)
