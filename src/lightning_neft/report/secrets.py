"""What must not get onto a page that is passed on: values of key-like settings, passwords in addresses, tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["MASK", "mask", "mask_text"]

MASK = "*** (left out)"

_SECRET_WORDS = {"secret", "secrets", "password", "passwd", "passphrase", "credential", "credentials", "authorization"}
# Secrets only as texts: `tokens: 512` is a count, `token: true` a switch.
_SECRET_TEXTS = {"key", "keys", "apikey", "token", "bearer"}
# Names of settings that are no secrets though they end like one.
_HARMLESS = {"pad", "eos", "bos", "unk", "mask", "sep", "cls", "image", "stop", "end", "text", "prompt", "field"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_IN_TEXT = (
    # user:password@ of an address, such as that of a database
    (re.compile(r"(\b[a-zA-Z][\w+.-]*://[^\s/:@]*):[^\s/@]+@"), r"\1:***@"),
    (re.compile(r"\b(hf_|sk-|ghp_|gho_|github_pat_|xox[abp]-)[\w-]{12,}"), r"\1***"),
    (re.compile(r"\b(bearer)\s+[\w.~+/=-]{8,}", re.IGNORECASE), r"\1 ***"),
    # --judge.api_key VALUE, OPENAI_API_KEY=VALUE, ?token=VALUE
    (
        re.compile(
            r"((?:\b|_)(?:api[_-]?key|access[_-]?key|token|secret|password|passwd)(?:=|:\s*|\s+(?=\S{6,})))[^\s&'\",;]+",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
)


def mask(value: Any, name: str = "") -> Any:
    """Return a value of settings without secrets.

    Args:
        value: A plain value as JSON has it; objects and lists are looked through.
        name: The name it has.

    Example:
        >>> mask({"api_key": "abc", "pad_token": "</s>", "tokens": 512, "storage": "postgresql://me:pw@host/db"})
        {'api_key': '*** (left out)', 'pad_token': '</s>', 'tokens': 512, 'storage': 'postgresql://me:***@host/db'}
    """
    if _is_secret(name, value):
        return MASK
    if isinstance(value, Mapping):
        return {key: mask(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        # A command line: --name, then its value.
        names = [*([""] if value else []), *value[:-1]]
        return [
            mask(inner, before if isinstance(before, str) and before.startswith("--") else "")
            for before, inner in zip(names, value, strict=True)
        ]
    return mask_text(value) if isinstance(value, str) else value


def mask_text(text: str) -> str:
    """Return a text, such as a command or an error, without what looks like a secret.

    Example:
        >>> mask_text("fit --judge.api_key abc123def --seed 1")
        'fit --judge.api_key *** --seed 1'
    """
    for pattern, replacement in _IN_TEXT:
        text = pattern.sub(replacement, text)
    return text


def _is_secret(name: str, value: Any) -> bool:
    if value is None or value == "" or isinstance(value, bool):
        return False
    words = [word.lower() for word in _WORD.findall(name)]
    if _SECRET_WORDS & set(words):
        return True
    if isinstance(value, (int, float)) or not words:
        return False
    return words[-1] in _SECRET_TEXTS and not _HARMLESS & set(words)
