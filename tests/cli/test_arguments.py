"""Errors of the parser that verbs share."""

import pytest

from lightning_neft.cli.arguments import VerbParser
from lightning_neft.errors import ConfigError


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model", "x", "--ouput=y"], "try: unknown option --ouput; did you mean --output?"),
        (["--model", "x", "--zzz"], "try: unknown option --zzz; options are --model, --output, --count"),
        (["--mod", "x"], "try: the following arguments are required: --model"),
        (["--model", "x", "y"], "try: unexpected argument 'y'; options are --model, --output, --count"),
        (["--model", "x", "--count", "many"], "try: argument --count: invalid int value: 'many'"),
        (["--model"], "try: argument --model: expected one argument"),
    ],
)
def test_mistake_is_one_line_with_the_verb_and_what_to_do(args: list[str], message: str) -> None:
    parser = VerbParser("try")
    parser.add_argument("--model", required=True)
    parser.add_argument("--output")
    parser.add_argument("--count", type=int)
    with pytest.raises(ConfigError) as caught:
        parser.parse(args)
    assert str(caught.value) == message
