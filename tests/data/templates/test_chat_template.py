"""The tokenizer's own chat template: taken apart without changing what it renders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.data.exchange_ids import encode_prompts
from lightning_neft.data.templates.chat_template import ChatTemplate
from lightning_neft.data.templates.template import Exchange
from lightning_neft.data.tokenization import encode
from lightning_neft.errors import ConfigError, DataError
from lightning_neft.hub.tokenizer import load_tokenizer
from words import talk, tokenizer

# As Qwen2.5 does it: a system message of its own, a line break after each message.
OWN_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As Llama 2: nothing for the generation prompt, a space before each answer and before its end.
BRACKETS = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
# As Gemma: no system messages, turns that alternate, contents without white space around them.
STRICT = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}"
    "{{ '<turn>' + ('model' if m['role'] == 'assistant' else 'user') + '\n' + m['content'] | trim + '<end>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<turn>model\n' }}{% endif %}"
)
# As Qwen3: an empty thought before the last answer, none before earlier ones.
THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think></think>\n' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Nothing after an answer but a line break.
BARE = (
    "{% for m in messages %}{{ m['role'] + '>' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant>' }}{% endif %}"
)


def tiny(chat_template: str | None) -> Any:
    loaded = load_tokenizer("tiny")
    loaded.chat_template = chat_template
    return loaded


def rendered(words: Any, conversation: Conversation, **options: Any) -> list[int]:
    messages = [{"role": message.role, "content": message.content} for message in conversation.messages]
    return list(words.apply_chat_template(messages, tokenize=True, return_dict=False, **options))


CONVERSATION = talk("Name a fruit.", "An apple.", "Another, please!", "A pear, then.", "Why?", "You asked.")


@pytest.mark.parametrize("chat_template", [OWN_SYSTEM, BRACKETS, STRICT, THINKING])
@pytest.mark.parametrize("turns", [2, 4, 6])
def test_the_ids_are_those_of_apply_chat_template(chat_template: str, turns: int) -> None:
    words = tiny(chat_template)
    conversation = Conversation(CONVERSATION.messages[:turns])
    (sample,) = encode([conversation], words, ChatTemplate(words), max_length=1000).samples
    ids, whole = list(sample.input_ids), rendered(words, conversation)
    assert ids == whole[: len(ids)]
    assert words.decode(whole[len(ids) :]).strip() == ""
    prompt = rendered(words, conversation.prompt, add_generation_prompt=True)
    assert encode_prompts(words, ChatTemplate(words), [conversation]) == [prompt]
    assert ids[: len(prompt)] == prompt


def test_every_answer_with_its_end_is_trained() -> None:
    words = tiny(OWN_SYSTEM)
    (sample,) = encode([CONVERSATION], words, ChatTemplate(words), max_length=1000).samples
    trained = words.decode([label for label in sample.labels if label != -100])
    assert trained == "An apple.<|im_end|>A pear, then.<|im_end|>You asked.<|im_end|>"


def test_the_exchanges_word_by_word() -> None:
    words = tiny(BRACKETS)
    template = ChatTemplate(words)
    assert template.exchanges(talk("A", "B", "C", "D")) == [
        Exchange("<s>[INST] A [/INST]", " B", " </s>"),
        Exchange("<s>[INST] C [/INST]", " D", " </s>"),
    ]
    assert (template.stop, template.content(" B")) == ((), "B")
    assert ChatTemplate(tiny(STRICT)).stop == ("<end>",)


def test_only_the_last_answer_is_trained_after_rewording() -> None:
    words = tiny(THINKING)
    (exchange,) = ChatTemplate(words).exchanges(talk("A", "B", "C", "D"))
    assert exchange == Exchange(
        "<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\nB<|im_end|>\n"
        "<|im_start|>user\nC<|im_end|>\n<|im_start|>assistant\n",
        "<think></think>\nD",
        "<|im_end|>",
    )
    encoding = encode([talk("A", "B", "C", "D")], words, ChatTemplate(words), max_length=1000)
    assert encoding.untrained == 1


def test_reworded_earlier_answers_are_not_trained() -> None:
    # A mark before the answer as long as it is the only one.
    odd = BARE.replace("{{ m['role']", "{% if loop.index == 2 and loop.last %}{{ '!' }}{% endif %}{{ m['role']")
    odd = odd.replace("{{ 'assistant>' }}", "{{ ('!' if messages | length == 1 else '') + 'assistant>' }}")
    template = ChatTemplate(tiny(odd))
    assert template.exchanges(talk("A", "B")) == [Exchange("user>A\n!assistant>", "B")]
    assert template.exchanges(talk("A", "B", "C", "D", "E", "F")) == [
        Exchange("user>A\nassistant>B\nuser>C\nassistant>", "D"),
        Exchange("\nuser>E\nassistant>", "F"),
    ]


def test_an_answer_ended_by_white_space_gets_the_end_token() -> None:
    words = tiny(BARE)
    assert ChatTemplate(words).exchanges(talk("A", "B", "C", "D")) == [
        Exchange("user>A\nassistant>", "B", None),
        Exchange("\nuser>C\nassistant>", "D", None),
    ]
    (sample,) = encode([talk("A", "B")], words, ChatTemplate(words), max_length=100).samples
    assert words.decode(sample.input_ids) == "user>A\nassistant>B</s>"


def test_an_answer_without_text_of_its_own_is_dropped() -> None:
    encoding = encode([talk("A", "")], tiny(THINKING), ChatTemplate(tiny(THINKING)), max_length=100)
    assert encoding.dropped == {"empty answer": 1}


def test_a_context_stands_below_the_content() -> None:
    (exchange,) = ChatTemplate(tiny(BARE)).exchanges(Conversation.exchange("A", "B", context="C"))
    assert exchange.prompt == "user>A\n\nC\nassistant>"


def test_a_refused_system_message_is_an_error_of_one_line(snapshot: Callable[[str], None]) -> None:
    with pytest.raises(DataError) as error:
        ChatTemplate(tiny(STRICT)).exchanges(talk("A", "B", system="Be kind."))
    snapshot(text := str(error.value))
    assert "'s chat template refuses the conversation that begins '" in text


def test_other_refusals_do_not_speak_of_system_messages(snapshot: Callable[[str], None]) -> None:
    conversation = Conversation((Message("user", "A"), Message("user", "B"), Message("assistant", "C")))
    with pytest.raises(DataError) as error:
        ChatTemplate(tiny(STRICT)).exchanges(conversation)
    snapshot(text := str(error.value))
    assert "'s chat template refuses the conversation that begins '" in text


def test_a_text_without_a_question_is_refused() -> None:
    with pytest.raises(DataError, match="has no user message"):
        ChatTemplate(tiny(OWN_SYSTEM)).exchanges(Conversation((Message("assistant", "Once."),)))
    with pytest.raises(DataError, match="has no user message"):
        ChatTemplate(tiny(OWN_SYSTEM)).prompt(Conversation((Message("assistant", "Once."),)))
    assert ChatTemplate(tiny(OWN_SYSTEM)).exchanges(talk("A")) == []


def test_a_tokenizer_without_a_chat_template_is_refused(snapshot: Callable[[str], None]) -> None:
    with pytest.raises(ConfigError) as error:
        ChatTemplate(tokenizer())
    snapshot(str(error.value))


@pytest.mark.parametrize(
    ("chat_template", "message"),
    [
        ("{{ raise_exception('no') }}", "refuses the conversation that begins '\\?': no; choose another"),
        ("{% if add_generation_prompt %}x{% else %}y{% endif %}", "differently for training and for generation"),
        ("{{ 'always the same' }}", "differently for training and for generation"),
        ("{{ messages[7].content.pop() }}", "refuses the conversation"),
    ],
)
def test_chat_templates_that_cannot_be_used_are_refused_at_once(chat_template: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ChatTemplate(tiny(chat_template))


def test_a_conversation_that_generation_renders_differently() -> None:
    # The generation prompt knows of the system message, the answered conversation does not.
    odd = BARE + "{% if add_generation_prompt and messages[0]['role'] == 'system' %}{{ 'odd' }}{% endif %}"
    template = ChatTemplate(tiny(odd))
    assert len(template.exchanges(talk("A", "B"))) == 1
    with pytest.raises(DataError, match=r"begins 'A' differently for training and for generation"):
        template.exchanges(talk("A", "B", system="Be kind."))


def test_an_answer_with_an_end_of_its_own_is_trained_to_its_end() -> None:
    odd = BARE.replace("m['content'] + '\n'", "m['content'] + ('!' if m['content'] == 'B' else '.')")
    template = ChatTemplate(tiny(odd))
    assert template.exchanges(talk("A", "B"))[0] == Exchange("user>A.assistant>", "B!", "")
    assert template.exchanges(talk("A", "C"))[0] == Exchange("user>A.assistant>", "C", ".")


# Of a template that ends at once on a single message.
IF_ANSWERED = "{%% if messages | length > 1 %%}%s{%% endif %%}"
LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
CALLS = "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"
DOUBLED = (
    "{% set ns = namespace(x='xx') %}{% for a in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x[0] }}"
)


@pytest.mark.parametrize(
    ("program", "limit"),
    [
        (LOOPS, "it does not end within 1 seconds"),
        (CALLS, "it does not end within 1 seconds"),
        (IF_ANSWERED % LOOPS, "it does not end within 1 seconds"),
        ("{{ 'x' * 10 ** 10 }}", "it needs more than 1024 MB"),
        ("{% set x = '%10000000000d' % 5 %}", "it needs more than 1024 MB"),
        ("{% set x = 'x' | center(10 ** 10) %}", "it needs more than 1024 MB"),
        # Which limit is first depends on how fast memory is.
        (DOUBLED, "it (needs more than 1024 MB|does not end within 1 seconds)"),
    ],
)
def test_a_template_without_end_is_refused_within_limits(
    program: str, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_neft.common.limits._SECONDS", 1)
    with pytest.raises(ConfigError, match=f"chat template cannot be used: {limit} to render a question") as caught:
        ChatTemplate(tiny(program + BARE))
    assert "choose another template, such as chatml or vicuna" in str(caught.value)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("{{ 'x' * 2 * 10 ** 6 }}", r"it renders 20000\d\d characters"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}", "recursion"),
        ("{{ '\\ud800' }}", "surrogates not allowed"),
        ("{% for a in range(10 ** 9) %}{% endfor %}", "Range too big"),
        ("{% include '/etc/passwd' %}", "no loader"),
    ],
)
def test_whatever_a_template_raises_is_an_error_of_one_line(program: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"chat template refuses the conversation that begins .*{message}") as caught:
        ChatTemplate(tiny(program + BARE))
    assert "\n" not in str(caught.value)


def test_an_ever_growing_text_is_refused() -> None:
    template = ChatTemplate(tiny("{% if messages[0]['content'] == 'grow' %}{{ 'x' * 2 * 10 ** 6 }}{% endif %}" + BARE))
    assert template.exchanges(talk("stay", "so"))
    with pytest.raises(DataError, match=r"begins 'grow': it renders 20000\d\d characters"):
        template.exchanges(talk("grow", "so"))
