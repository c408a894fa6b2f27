"""Errors of the parser that verbs share."""

from collections.abc import Callable

import pytest

from lightning_neft.cli.arguments import VerbParser
from lightning_neft.errors import ConfigError


@pytest.mark.parametrize(
    "case",
    [
        ("--model x --ouput=y", "--ouput", "--output"),
        ("--model x --zzz", "--zzz", "--model, --output, --count"),
        ("--mod x", "--model"),
        ("--model x y", "'y'", "--model, --output, --count"),
        ("--model x --count many", "--count", "'many'"),
        ("--model", "--model"),
    ],
    ids=lambda case: case[0],
)
def test_mistake_is_one_line_with_the_verb_and_a_fix(case: tuple[str, ...], snapshot: Callable[[str], None]) -> None:
    parser = VerbParser("try")
    parser.add_argument("--model", required=True)
    parser.add_argument("--output")
    parser.add_argument("--count", type=int)
    args, *names = case
    with pytest.raises(ConfigError, match=r"^try: ") as caught:
        parser.parse(args.split())
    assert [name for name in names if name not in str(caught.value)] == []
    snapshot(str(caught.value))
