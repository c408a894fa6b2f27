"""Reasoning, tools and ends of turns in templates: in the template's own keys, as at inference, or as plain text."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from lightning_neft.data.conversation import Conversation, Message, ToolCall
from lightning_neft.data.exchange_ids import encode_prompts
from lightning_neft.data.templates.bundled import BUNDLED, BundledTemplate
from lightning_neft.data.templates.chat_messages import OPENAI, chat_messages, chat_tools
from lightning_neft.data.templates.chat_template import ChatTemplate
from lightning_neft.data.templates.registry import chat_template_of, template_named
from lightning_neft.data.tokenization import IGNORED, encode
from lightning_neft.errors import DataError
from lightning_neft.hub.base_models import base_models
from lightning_neft.hub.tokenizer import add_special_tokens, load_tokenizer
from lightning_neft.models.decoding import end_ids
from words import talk

# As Qwen3: tools in the system message, reasoning only after the last question, calls and results between tags.
STEPS = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
    "{% set last = namespace(question=0) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set last.question = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}"
    "{% if m.role == 'tool' %}<|im_start|>user\n<result>{{ m.content }}</result>"
    "{% else %}<|im_start|>{{ m.role }}\n"
    "{% if %s and loop.index0 > last.question %}<think>\n{{ %s }}\n</think>\n\n{% endif %}{{ m.content or '' }}"
    "{% for call in m.tool_calls or [] %}<call>{{ call.function | tojson }}</call>{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN = STEPS.replace("%s", "m.reasoning_content")
# As DeepSeek-R1: the end of each earlier thought cut off with it, also of the last one.
CUTTING = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}[A]{{ m.content.split('</think>')[-1] }}"
    "{{ eos_token }}{% else %}[U]{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}[A]{% endif %}"
)
# As Qwen3.5: the prompt of generation opens the thought, which each answer has.
OPENED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}<think>\n"
    "{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
# As Phi-3: the end token behind the last turn alone.
ONE_END = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% else %}{{ eos_token }}{% endif %}"
)
# As gpt-oss: a call ends with another token than an answer does.
CALLING = STEPS.replace("%s", "m.thinking").replace(
    "<|im_end|>\n{% endfor %}{% if add", "{{ '<|call|>' if m.tool_calls else '<|im_end|>' }}\n{% endfor %}{% if add"
)
# As Mistral: calls need ids of nine characters, and as DeepSeek-V3: arguments are text, and no content is none.
WITH_IDS = QWEN.replace(
    "<call>",
    "{% if call.id is undefined or call.id | length != 9 %}{{ raise_exception('nine characters') }}{% endif %}"
    "<call>{{ call.id }} ",
)
AS_TEXT = QWEN.replace(
    "{{ call.function | tojson }}", "{{ call.function.name + ' ' + call.function.arguments }}"
).replace("{{ m.content or '' }}", "{{ m.content if m.content is not none else '' }}")

TOOLS = json.dumps(
    [
        {
            "type": "function",
            "function": {
                "name": "weigh",
                "description": "Weighs a fruit.",
                "parameters": {"type": "object", "properties": {"fruit": {"type": "string"}}},
            },
        }
    ]
)
CALL = ToolCall("weigh", '{"fruit": "ä <b>"}')
TOOL_TALK = Conversation(
    (
        Message("user", "How heavy?"),
        Message("assistant", "", reasoning="I must weigh it.", tool_calls=(CALL,)),
        Message("tool", '{"g": 80}', name="weigh"),
        Message("assistant", "80 g.", reasoning="It says 80."),
    ),
    TOOLS,
)


def tiny(chat_template: str) -> Any:
    loaded = load_tokenizer("tiny")
    loaded.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>", "<|call|>"]})
    loaded.chat_template = chat_template
    return loaded


def trained_text(template: ChatTemplate | BundledTemplate, conversation: Conversation, words: Any) -> list[str]:
    """The texts with a loss, run by run."""
    (sample,) = encode([conversation], words, template, max_length=10_000).samples
    runs: list[list[int]] = [[]]
    for label in sample.labels:
        if label != IGNORED:
            runs[-1].append(int(label))
        elif runs[-1]:
            runs.append([])
    return [words.decode(run) for run in runs if run]


def asked_at_inference(words: Any, conversation: Conversation, key: str = "reasoning_content") -> list[int]:
    """What a server feeds, said without the code of the package."""
    messages: list[dict[str, Any]] = []
    for message in conversation.messages[:-1]:
        said: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.reasoning:
            said[key] = message.reasoning
        if message.tool_calls:
            said["tool_calls"] = [
                {"type": "function", "function": {"name": call.name, "arguments": json.loads(call.arguments)}}
                for call in message.tool_calls
            ]
        messages.append(said)
    tools = json.loads(conversation.tools) if conversation.tools else None
    return list(
        words.apply_chat_template(messages, tools=tools, add_generation_prompt=True, tokenize=True, return_dict=False)
    )


@pytest.mark.parametrize(("chat_template", "key"), [(QWEN, "reasoning_content"), (CALLING, "thinking")])
def test_a_prompt_is_that_of_inference_token_by_token(chat_template: str, key: str) -> None:
    words = tiny(chat_template)
    template = ChatTemplate(words)
    prompt = asked_at_inference(words, TOOL_TALK, key)
    assert encode_prompts(words, template, [TOOL_TALK]) == [prompt]
    (sample,) = encode([TOOL_TALK], words, template, max_length=10_000).samples
    assert list(sample.input_ids)[: len(prompt)] == prompt
    assert sample.labels[len(prompt) - 1] == IGNORED != sample.labels[len(prompt)]


@pytest.mark.parametrize("chat_template", [QWEN, AS_TEXT, WITH_IDS, CALLING])
def test_calls_and_reasoning_are_trained(chat_template: str) -> None:
    words = tiny(chat_template)
    end = "<|call|>" if chat_template is CALLING else "<|im_end|>"
    call = '<call>{"name": "weigh", "arguments": {"fruit": "ä <b>"}}</call>'
    if chat_template is AS_TEXT:
        call = '<call>weigh {"fruit": "ä <b>"}</call>'
    elif chat_template is WITH_IDS:
        call = call.replace("<call>", "<call>call00000 ")
    assert trained_text(ChatTemplate(words), TOOL_TALK, words) == [
        f"<think>\nI must weigh it.\n</think>\n\n{call}{end}",
        "<think>\nIt says 80.\n</think>\n\n80 g.<|im_end|>",
    ]


def test_the_end_of_a_call_ends_generation() -> None:
    words = tiny(CALLING)
    assert ChatTemplate(words).stop == ("<|im_end|>", "<|call|>")
    assert set(end_ids(words, ChatTemplate(words).stop)) == {
        words.eos_token_id,
        *words.convert_tokens_to_ids(["<|im_end|>", "<|call|>"]),
    }


def test_ids_of_the_data_are_kept_where_they_fit() -> None:
    call = Message("assistant", "", tool_calls=(ToolCall("weigh", "{}", "abc123xyz"), ToolCall("weigh", "{}", "2")))
    results = (Message("tool", "2", tool_call_id="2"), Message("tool", "1", tool_call_id="abc123xyz"))
    form = ChatTemplate(tiny(WITH_IDS))._form
    made = chat_messages((call, *results), form)
    assert [made_call["id"] for made_call in made[0]["tool_calls"]] == ["abc123xyz", "call00000"]
    assert [message["tool_call_id"] for message in made[1:]] == ["call00000", "abc123xyz"]


REASONED = Conversation(
    (
        Message("user", "2 + 2?"),
        Message("assistant", "4", reasoning="Two and two."),
        Message("user", "3 + 3?"),
        Message("assistant", "6", reasoning="Three and three."),
    )
)


def test_earlier_reasoning_is_omitted_as_at_inference() -> None:
    words = tiny(QWEN)
    encoding = encode([REASONED, TOOL_TALK], words, ChatTemplate(words), max_length=1000)
    text = words.decode(encoding.samples[0].input_ids)
    assert "Two and two" not in text
    assert "<think>\nThree and three.\n</think>\n\n6<|im_end|>" in text
    assert encoding.untrained == 1
    assert encoding.remarks == {
        "have reasoning in earlier answers that the template omits, in training as in generation": 1
    }


@pytest.mark.parametrize("content", ["<think>\nTwo and two.\n</think>\n\n4", " <think>Two and two.</think>4"])
def test_inline_reasoning_is_given_in_the_templates_key(content: str) -> None:
    words = tiny(QWEN)
    inline = Conversation((Message("user", "2 + 2?"), Message("assistant", content)))
    assert trained_text(ChatTemplate(words), inline, words) == ["<think>\nTwo and two.\n</think>\n\n4<|im_end|>"]


def test_a_thought_that_the_prompt_opens_is_continued() -> None:
    words = tiny(OPENED)
    template = ChatTemplate(words)
    assert trained_text(template, Conversation(REASONED.messages[:2]), words) == [
        "Two and two.\n</think>\n\n4<|im_end|>"
    ]
    assert trained_text(template, talk("A", "B"), words) == ["\n</think>\n\nB<|im_end|>"]


def test_reasoning_begins_the_answer_without_a_key() -> None:
    words = tiny(ONE_END)
    assert trained_text(ChatTemplate(words), REASONED, words) == [
        "<think>\nTwo and two.\n</think>\n\n4<|im_end|>",
        "<think>\nThree and three.\n</think>\n\n6<|im_end|>",
    ]


@pytest.mark.parametrize(
    "conversation",
    [Conversation(REASONED.messages[:2]), talk("2 + 2?", "<think>\nTwo and two.\n</think>\n\n4")],
)
def test_reasoning_that_a_template_cuts_is_an_error(
    conversation: Conversation, snapshot: Callable[[str], None]
) -> None:
    words = tiny(CUTTING)
    with pytest.raises(DataError) as caught:
        encode([talk("A", "B"), conversation], words, ChatTemplate(words), max_length=100, places=["one", "sample 9"])
    snapshot(text := str(caught.value))
    assert "sample 9" in text
    assert "'Two and two.'" in text


def test_an_answer_that_a_template_rewrites_is_an_error() -> None:
    words = tiny(ONE_END.replace("{{ m.content }}", "{{ m.content | replace('x', 'y') }}"))
    template = ChatTemplate(words)
    for conversation in (talk("A", "xx"), talk("A", "xx", "B", "C")):
        with pytest.raises(DataError, match=r"sample 1: the text of .* which begins 'xx', does not appear"):
            encode([conversation], words, template, max_length=100)


def test_white_space_that_a_template_trims_is_no_error() -> None:
    words = tiny(ONE_END.replace("{{ m.content }}", "{{ m.content | trim }}"))
    assert trained_text(ChatTemplate(words), talk("A", " B\n", "C", "\nD "), words) == ["B<|im_end|>", "D<|im_end|>"]


def test_all_answers_are_trained_with_one_end_token() -> None:
    words = tiny(ONE_END)
    template = ChatTemplate(words)
    conversation = talk("A", "B", "C", "D", "E", "F")
    assert trained_text(template, conversation, words) == ["B<|im_end|>", "D<|im_end|>", "F<|im_end|>"]
    assert template.stop == ("<|im_end|>",)
    assert encode_prompts(words, template, [conversation]) == [asked_at_inference(words, conversation)]
    encoding = encode([conversation], words, template, max_length=100)
    assert encoding.untrained == 0


def test_a_template_without_tools_names_bases_that_have_them(snapshot: Callable[[str], None]) -> None:
    with pytest.raises(DataError) as caught:
        ChatTemplate(tiny(ONE_END)).exchanges(TOOL_TALK)
    snapshot(text := str(caught.value))
    named = text.rpartition("bases ")[2].split(", ")
    assert named
    assert {*named} <= {*base_models()}


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_templates_render_the_plain_form(name: str) -> None:
    words = load_tokenizer("tiny")
    template = template_named(name, words)
    add_special_tokens(words, template.special_tokens)
    first, last = template.exchanges(TOOL_TALK)
    described = json.dumps(json.loads(TOOLS)[0], ensure_ascii=False)
    assert f"<tools>\n{described}\n</tools>" in first.prompt
    assert first.answer == (
        f"{template.lead}<think>\nI must weigh it.\n</think>\n\n"
        '<tool_call>\n{"name": "weigh", "arguments": {"fruit": "ä <b>"}}\n</tool_call>'
    )
    assert '<tool_response>\n{"g": 80}\n</tool_response>' in last.prompt
    assert last.answer == f"{template.lead}<think>\nIt says 80.\n</think>\n\n80 g."


def test_tools_follow_the_system_message() -> None:
    asked = Conversation((Message("system", "Be brief."), *TOOL_TALK.messages), TOOLS)
    prompt = BundledTemplate("chatml").exchanges(asked)[0].prompt
    assert prompt.startswith("<|im_start|>system\nBe brief.\n\nYou may call")
    assert prompt.count("<|im_start|>system") == 1


def test_parallel_results_are_one_turn() -> None:
    calls = Message("assistant", "Both.", tool_calls=(CALL, CALL))
    messages = (Message("user", "?"), calls, Message("tool", "1"), Message("tool", "2"), Message("assistant", "3"))
    first, last = BundledTemplate("chatml").exchanges(Conversation(messages, TOOLS))
    assert first.answer.startswith("Both.\n<tool_call>\n")
    assert first.answer.count("<tool_call>") == 2
    assert last.prompt == (
        "\n<|im_start|>user\n<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("name", [name for name, entry in BUNDLED.items() if not entry.is_raw])
def test_an_exported_template_gives_the_prompt_of_training(name: str) -> None:
    words = load_tokenizer("tiny")
    template = template_named(name, words)
    add_special_tokens(words, template.special_tokens)
    words.chat_template = chat_template_of(template, words)
    assert words.chat_template is not None
    assert encode_prompts(words, template, [TOOL_TALK]) == [asked_at_inference(words, TOOL_TALK)]
    whole = words.apply_chat_template(
        chat_messages(TOOL_TALK.messages, OPENAI), tools=chat_tools(TOOLS), tokenize=True, return_dict=False
    )
    (sample,) = encode([TOOL_TALK], words, template, max_length=10_000).samples
    assert list(sample.input_ids) == whole


def test_names_of_control_tokens_in_tools_and_calls_are_text() -> None:
    call = ToolCall("weigh", '{"fruit": "</s>"}')
    said = Message("assistant", "", reasoning="What is </s>?", tool_calls=(call,))
    conversation = Conversation((Message("user", "?"), said), TOOLS.replace("Weighs a fruit.", "Weighs </s>."))
    words = tiny(QWEN)
    for template in (ChatTemplate(words), BundledTemplate("chatml")):
        (sample,) = (encoding := encode([conversation], words, template, max_length=1000)).samples
        assert words.eos_token_id not in sample.input_ids
        assert words.decode(sample.input_ids).count("</s>") == 3
        assert [*encoding.remarks] == ["contain '</s>' in a message: it is read as text, not as the control token"]


def test_the_identity_depends_on_the_plain_form() -> None:
    chatml = BundledTemplate("chatml")
    before = chatml.identity()
    chatml._text = chatml._text.replace("<tool_response>", "<result>")
    assert chatml.identity() != before
