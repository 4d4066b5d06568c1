"""What a language model is asked (§4.2): two lines from a local causal model, a JSON object from an endpoint."""

from __future__ import annotations

import json
from typing import Any, Final

PROMPT_VERSION: Final = 1  # of the system message and the worked examples

SYSTEM_PROMPT: Final = """\
You write training examples for composed image retrieval. A shopper or a photo editor looks at an image, \
described by the caption you are given, and says in a few words how the image they want differs from it.

Reply with a JSON object of two strings:
- "modification": that request, 2 to 20 words, in everyday English. Ask for one or two visible changes: an \
object, its colour, number, size or material, an action, the place, the weather, something added or removed. \
Be creative; never repeat the caption.
- "modified_caption": the caption of the wanted image. Keep the words and the order of the given caption, \
change what the request asks for and nothing else.

Reply with the JSON object alone."""

# Captions of the kinds the paper trains on: photographs (COCO, Flickr30K) and products (ABO).
EXAMPLES: Final[tuple[tuple[str, str, str], ...]] = (
    (
        "A man riding a wave on top of a surfboard.",
        "make it a woman and let the sun set behind her",
        "A woman riding a wave on top of a surfboard with the sun setting behind her.",
    ),
    (
        "Grey fabric three-seat sofa with wooden legs",
        "in leather and with metal legs",
        "Grey leather three-seat sofa with metal legs",
    ),
    (
        "Two dogs play with a ball on the beach.",
        "three dogs, and without the ball",
        "Three dogs play on the beach.",
    ),
    (
        "a large kitchen with a stove and white cabinets",
        "make it smaller and add a round table",
        "a small kitchen with a stove, white cabinets and a round table",
    ),
)

# Sent as `response_format` to servers that honour it; `parse` checks the same whether they do or not.
RESPONSE_FORMAT: Final[dict[str, Any]] = {
    "type": "json_schema",
    "json_schema": {
        "name": "triplet",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"modification": {"type": "string"}, "modified_caption": {"type": "string"}},
            "required": ["modification", "modified_caption"],
            "additionalProperties": False,
        },
    },
}


def local_prompt(caption: str) -> str:
    """Prompt of a local causal language model, tuned or not."""
    return f"caption: {caption}\nedit:"


# A local model that has not learned to end goes on with the next caption: there its reply is cut off.
REPLY_END: Final = "\ncaption:"
_LOCAL_TASK: Final = (
    "Each caption is followed by a request to change what it shows, and by the caption after that change."
)


def few_shot_prompt(caption: str) -> str:
    """The same of a model that is not tuned: the task in a sentence, and worked examples in the form of the replies."""
    shown = [local_prompt(given) + local_completion(asked, changed) for given, asked, changed in EXAMPLES]
    return "\n".join([_LOCAL_TASK, *shown, local_prompt(caption)])


def local_completion(modification: str, modified_caption: str) -> str:
    """What follows `local_prompt`; the end-of-sequence token comes after it."""
    return f" {modification}\n{modified_caption}"


def json_reply(modification: str, modified_caption: str) -> str:
    """What an endpoint answers to `chat_messages`."""
    return json.dumps({"modification": modification, "modified_caption": modified_caption}, ensure_ascii=False)


def chat_messages(caption: str, system: str | None = None) -> list[dict[str, str]]:
    """Messages of one chat completion: the task, worked examples as turns, and the caption as the last message.

    Args:
        caption: of the reference image.
        system: another system message than `SYSTEM_PROMPT`.
    """
    messages = [{"role": "system", "content": SYSTEM_PROMPT if system is None else system}]
    for example, modification, modified_caption in EXAMPLES:
        messages.append({"role": "user", "content": example})
        messages.append({"role": "assistant", "content": json_reply(modification, modified_caption)})
    return [*messages, {"role": "user", "content": caption}]
