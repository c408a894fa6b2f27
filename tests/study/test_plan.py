"""What is to be run: lists of alphas, the ends of a search, names of folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_neft.errors import ConfigError
from lightning_neft.study.plan import Arm, Plan, Search, parse_alphas, parse_search, parse_seeds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,x", "--alphas '0,x': 'x' is not a number of 0 or more; use the form 0,5,10,15"),
        ("0,-1", "--alphas '0,-1': '-1' is not a number of 0 or more; use the form 0,5,10,15"),
        ("0,nan", "--alphas '0,nan': 'nan' is not a number of 0 or more; use the form 0,5,10,15"),
        ("0,,5", "--alphas '0,,5': '' is not a number of 0 or more; use the form 0,5,10,15"),
        ("0,5,5.0", "--alphas '0,5,5.0': a value is repeated; give each one once"),
        ("5,10", "--alphas '5,10': 0 is missing, the baseline of all comparisons; give 0,5,10"),
    ],
)
def test_a_wrong_list_of_alphas_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_alphas(text)
    assert str(error.value) == message


@pytest.mark.parametrize("text", ["5", "5,1", "1,1", "1,2,3"])
def test_a_search_needs_two_rising_ends(text: str) -> None:
    with pytest.raises(ConfigError, match="give the smallest and the largest alpha, such as 1,20"):
        parse_search(text, 3, "tpe")


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", (0, 1, 2)), ("1", (0,)), ("3,", (3,)), ("0,", (0,)), ("4, 3", (3, 4)), ("7,3,5", (3, 5, 7))],
)
def test_seeds_are_a_number_of_them_or_a_list(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["0", "00", "", ",", "x", "1.5", "-1", "3,x", "3,,4"])
def test_what_is_neither_a_number_nor_a_list_of_seeds_is_named(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_seeds(text)
    allowed = "give the number of seeds, such as 3, or a list with a comma, such as 3,4"
    assert str(error.value) == f"--seeds {text!r}: {allowed}"


def test_a_seed_is_given_once() -> None:
    with pytest.raises(ConfigError) as error:
        parse_seeds("3,4,3")
    assert str(error.value) == "--seeds '3,4,3': a seed is repeated; give each one once"


def test_each_arm_has_a_folder_of_its_own_in_that_of_the_study() -> None:
    plan = Plan(Path("out"), (0.0, 0.5, 5.0), (0, 1))
    folders = {plan.folder_of(Arm(alpha, seed)) for alpha in plan.alphas for seed in plan.seeds}
    assert len(folders) == plan.arm_count == 6
    assert Path("out/arms/alpha-0.5-seed-1") in folders


def test_a_search_counts_its_trials_and_the_baseline() -> None:
    assert Plan(Path("out"), (0.0,), (0, 1), Search(1, 20, trials=8)).arm_count == 18
