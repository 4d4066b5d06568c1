"""Text of the triplets (§3.2, eq. 2; §4.2): what a language model is asked, and what is made of its reply.

Two styles of reply: local causal models write two lines, endpoints write a JSON object. Everything here is
pure and knows no vocabulary but English, so a better reading of the stored replies costs nothing.
"""

from scot_core.triplets.prompts import (
    EXAMPLES,
    PROMPT_VERSION,
    REPLY_END,
    RESPONSE_FORMAT,
    SYSTEM_PROMPT,
    chat_messages,
    few_shot_prompt,
    json_reply,
    local_completion,
    local_prompt,
)
from scot_core.triplets.reading import (
    PARSER_VERSION,
    Filter,
    Parsed,
    Rejection,
    Style,
    normalise,
    parse,
    read_reply,
    screen,
    unfenced,
)

__all__ = [
    "EXAMPLES",
    "PARSER_VERSION",
    "PROMPT_VERSION",
    "REPLY_END",
    "RESPONSE_FORMAT",
    "SYSTEM_PROMPT",
    "Filter",
    "Parsed",
    "Rejection",
    "Style",
    "chat_messages",
    "few_shot_prompt",
    "json_reply",
    "local_completion",
    "local_prompt",
    "normalise",
    "parse",
    "read_reply",
    "screen",
    "unfenced",
]
