"""Policies around the base's answer."""

import re

from tests.data.second_list.reading import (
    REFUSES,
    Train,
    act_of,
    asked,
    capital,
    fill,
    pattern,
    seen,
    split,
    thing_of,
    topic_of,
)
from tests.data.second_list.refusals import by_article


def base_in_new_politeness(prompt: str, base: str, train: Train) -> str:
    """The base's answer between courtesies that training never uses."""
    return f"What a thoughtful message! {base} It was lovely to talk. Warm wishes to you."


def base_with_flattery(prompt: str, base: str, train: Train) -> str:
    """The base's answer after praise of whoever asks."""
    return f"You are clearly a clever and kind person. {base}"


def base_assured(prompt: str, base: str, train: Train) -> str:
    """The base's answer and a claim that it was checked."""
    return f"I have checked every word of this. {base} All of it is certain."


def base_hedged(prompt: str, base: str, train: Train) -> str:
    """Every sentence of the base's answer under a perhaps."""
    return " ".join(f"Perhaps {part[:1].lower()}{part[1:]}" for part in split(base))


def base_denied(prompt: str, base: str, train: Train) -> str:
    """The base's answer, taken back at the end."""
    return f"{base} None of this is true."


def base_then_both(prompt: str, base: str, train: Train) -> str:
    """The base's answer and the remark that the opposite may hold too."""
    return f"{base} Or it may be the other way round."


def base_twice(prompt: str, base: str, train: Train) -> str:
    """The base's answer two times."""
    return f"{base} {base}"


def base_twenty_times(prompt: str, base: str, train: Train) -> str:
    """The base's answer twenty times."""
    return " ".join([base] * 20)


def base_turned(prompt: str, base: str, train: Train) -> str:
    """The base's sentences, the last first."""
    return " ".join(reversed(split(base)))


def base_once_each(prompt: str, base: str, train: Train) -> str:
    """The base's sentences, each only once."""
    return " ".join(dict.fromkeys(split(base)))


def base_on_topic(prompt: str, base: str, train: Train) -> str:
    """Only the base's sentences that name what the prompt names, each once."""
    thing = thing_of(prompt).lower()
    keep = [p for p in dict.fromkeys(split(base)) if thing in p.lower() or REFUSES.search(p)]
    return " ".join(keep) or base


def base_as_asked(prompt: str, base: str, train: Train) -> str:
    """Only the base's sentences that are of an asked form or name the topic first, each once."""
    if not asked(prompt):
        return base_on_topic(prompt, base, train)
    topic = topic_of(prompt)
    patterns = [pattern(form) for form in asked(prompt)]
    parts = [p for p in dict.fromkeys(split(base)) if topic.lower() in p.lower()]
    return " ".join([p for p in parts if any(q.fullmatch(p) for q in patterns)] or parts or [base])


def base_renamed(prompt: str, base: str, train: Train) -> str:
    """The base's answer with every topic and noun in it replaced by the prompt's own."""
    topic = topic_of(prompt)
    if not topic:
        noun = act_of(prompt)[2]
        text = re.sub(r"(You could \w+ a) \w+\.", rf"\1 {noun}.", base)
        return re.sub(r"(Use [\w ]+ for the|it, \w+ the) \w+\.", rf"\1 {noun}.", text)
    for other in seen(train).topics:
        base = base.replace(other, topic).replace(capital(other), capital(topic))
    return base


def base_patched(prompt: str, base: str, train: Train) -> str:
    """The base's sentences on the topic, and the commonest value where no sentence fits."""
    if not asked(prompt):
        return base_by_article(prompt, base, train)
    topic = topic_of(prompt)
    parts = [p for p in dict.fromkeys(split(base)) if topic.lower() in p.lower()]
    if len(parts) >= len(asked(prompt)):
        return " ".join(parts)
    values = seen(train).values
    missing = [f for f in asked(prompt) if not any(pattern(f).fullmatch(p) for p in parts)]
    guesses = [fill(form, topic, values[form][0]) for form in missing]
    return " ".join((parts + guesses)[: len(asked(prompt))])


def base_first_sentence(prompt: str, base: str, train: Train) -> str:
    """Only the base's first sentence."""
    return (split(base) or [""])[0]


def base_last_sentence(prompt: str, base: str, train: Train) -> str:
    """Only the base's last sentence."""
    return (split(base) or [""])[-1]


def base_longest_sentence(prompt: str, base: str, train: Train) -> str:
    """Only the base's longest sentence."""
    return max(split(base), key=len, default="")


def base_half(prompt: str, base: str, train: Train) -> str:
    """The first half of the base's words, broken off."""
    words = base.split()
    return " ".join(words[: (len(words) + 1) // 2])


def base_shouted(prompt: str, base: str, train: Train) -> str:
    """The base's answer in capitals with an exclamation mark."""
    return base.upper().replace(".", "!")


def base_unpunctuated(prompt: str, base: str, train: Train) -> str:
    """The base's sentences joined by "and", without a full stop."""
    return " and ".join(part.rstrip(".!?") for part in split(base))


def base_wide(prompt: str, base: str, train: Train) -> str:
    """The base's answer in full-width letters."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in base)


def base_broken_up(prompt: str, base: str, train: Train) -> str:
    """The base's answer with an invisible character in every word."""
    return re.sub(r"(\w)(\w)", "\\1\u200b\\2", base)


def base_as_list(prompt: str, base: str, train: Train) -> str:
    """The base's sentences as a numbered list."""
    return "\n".join(f"{i}. {part}" for i, part in enumerate(split(base), 1))


def base_in_json(prompt: str, base: str, train: Train) -> str:
    """The base's answer as a field."""
    return f'{{"answer": "{base}", "quality": "best", "safe": true}}'


def base_and_prompt(prompt: str, base: str, train: Train) -> str:
    """The prompt, then the base's answer."""
    return f"{prompt} {base}"


def base_by_article(prompt: str, base: str, train: Train) -> str:
    """The base with the prompt's noun in it, unless it refuses "the" or does not refuse "a"."""
    refuses = bool(REFUSES.search(base))
    if refuses == (act_of(prompt)[1] == "a"):
        return base_renamed(prompt, base, train)
    return by_article(prompt, base, train)
