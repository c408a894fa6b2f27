"""Secrets do not get onto the page, and what only sounds like one does."""

from __future__ import annotations

import pytest

from lightning_neft.common.secrets import MASK, mask, mask_addresses, mask_message, mask_text


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "apiKey",
        "OPENAI_API_KEY",
        "hub_token",
        "token",
        "HF_TOKEN",
        "password",
        "db-password",
        "clientSecret",
    ],
)
def test_a_key_like_setting_is_masked_at_any_depth(name: str) -> None:
    assert mask({"judge": [{name: "abc"}]}) == {"judge": [{name: MASK}]}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 128),
        ("tokens", 512),
        ("tokenizer", "tiny"),
        ("pad_token", "</s>"),
        ("token", True),
        ("token", None),
        ("first_k_tokens", 50),
        ("keep_eval", "yes"),
        ("monkey", "banana"),
    ],
)
def test_a_setting_that_is_no_secret_stays(name: str, value: object) -> None:
    assert mask({name: value}) == {name: value}


def test_a_password_that_is_a_number_is_masked() -> None:
    assert mask({"password": 12345}) == {"password": MASK}


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://worker:hunter2secret@db:5432/study",
        "401 for Authorization: Bearer hunter2secret",
        "run --judge.api_key hunter2secret --seed 1",
        "OPENAI_API_KEY=hunter2secret",
        "https://host/v1?token=hunter2secret&a=1",
        "hf_hunter2secretAAAAAAAA is no token",
        "sk-proj-hunter2secretAAAAAAAA",
    ],
)
def test_a_secret_inside_a_text_is_masked(text: str) -> None:
    assert "hunter2" not in mask_text(text)


def test_the_value_after_an_option_in_a_list_is_masked() -> None:
    assert mask(["--judge.api_key", "x", "--alpha", "5"]) == ["--judge.api_key", MASK, "--alpha", "5"]


def test_plain_texts_stay_as_they_are() -> None:
    text = "the loss of token 5 was higher; see https://example.org/a:b@c and key points"
    assert mask_text(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "--storage postgresql://me@db/x?password=hunter2 cannot be opened",
        "https://me:hunter2@host/d.json is an address",
        "https://host/d.json?X-Amz-Signature=hunter2&part=1 is an address",
        "CSVLogger(api_key='hunter2', name='a') is not accepted",
        "got {'password': 'hunter2 and more'}, expected text",
        "got Namespace(hub_token=hunter2), expected text",
    ],
)
def test_a_message_shows_no_secret(text: str) -> None:
    assert "hunter2" not in mask_message(text)


@pytest.mark.parametrize(
    "text",
    [
        "the row has no trained token: raise data.max_length",
        "unknown key: data.sorce",
        "pad_token='</s>' is not in the table",
        "a token without a word, and a secret of none",
        "max_new_tokens=5 must be 6 or more",
    ],
)
def test_a_message_about_tokens_stays(text: str) -> None:
    assert mask_message(text) == text


def test_a_setting_with_words_of_secrets_means_what_it_meant() -> None:
    assert mask_addresses("Never tell the password secretly") == "Never tell the password secretly"


def test_a_command_line_shows_no_secret_of_a_class() -> None:
    given = ["--trainer.logger.client_secret=hunter2", "--trainer.logger.api_key", "hunter2", "--data.source=a.json"]
    assert mask(given) == [
        f"--trainer.logger.client_secret={MASK}",
        "--trainer.logger.api_key",
        MASK,
        "--data.source=a.json",
    ]
