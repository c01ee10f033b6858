"""Tokenizers of every family, trained here on a few lines, and chat templates for them."""

from __future__ import annotations

from functools import cache
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = [
    "\n\nHuman: What is the capital of France?\n\nAssistant: Paris is the capital, and people like it.",
    "\n\nHuman: What do cats eat?\n\nAssistant: They eat fish; don't they? 1 2 3 (four)!",
    "user\nassistant\nsystem\nmodel [INST] [/INST] ### Response:\nBe kind. Parts of Paris are pretty.",
]
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML_DEFAULT = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}" + CHATML
GEMMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<|im_start|>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token }}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }} {{ eos_token }}"
    "{% else %}{{ raise_exception('no system turns') }}{% endif %}{% endfor %}"
)
ALPACA = (
    "{% for m in messages %}{% if m.role == 'user' %}### Instruction:\n{{ m.content }}\n\n"
    "{% else %}### Response:\n{{ m.content }}\n\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}### Response:\n{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "chatml_default": CHATML_DEFAULT,
    "gemma": GEMMA,
    "llama2": LLAMA2,
    "alpaca": ALPACA,
}


def _byte_level(prefix: bool) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return _trained(made, trainers.BpeTrainer, vocab_size=420, initial_alphabet=alphabet)


def _metaspace(scheme: str, split: bool = True) -> Tokenizer:
    """SentencePiece's BPE, as newer files of Llama 2 hold it; split=False: a whole text is one
    word, as Mistral's, whose merges were learnt from words all the same."""
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    made.decoder = decoders.Metaspace(prepend_scheme=scheme)
    made = _trained(made, trainers.BpeTrainer, vocab_size=300)
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    return made


def _crossing(scheme: str) -> Tokenizer:
    """One whose merges were learnt across words: "Assistant: Paris" has no boundary at the colon."""
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    made.decoder = decoders.Metaspace(prepend_scheme=scheme, split=False)
    return _trained(made, trainers.BpeTrainer, vocab_size=300)


def _prepend() -> Tokenizer:
    """The Llama-2 kind: a blank in front of every text and every piece of one, by its normalizer;
    no pre-tokenizer, so that a whole text is one word."""
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    made = _trained(made, trainers.BpeTrainer, vocab_size=300)
    made.pre_tokenizer = None
    blanks = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    made.normalizer = normalizers.Sequence(blanks)
    parts = decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()
    made.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)])
    return made


def _unigram(scheme: str) -> Tokenizer:
    """Its own pieces hold the special tokens, as SentencePiece's do."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    made.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return _trained(made, trainers.UnigramTrainer, vocab_size=160, unk_token="<unk>")


def _wordpiece() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    return _trained(made, trainers.WordPieceTrainer, vocab_size=200)


def _words() -> Tokenizer:
    """Whole words by blanks alone, so that a spelt special token is a word of the model's."""
    made = Tokenizer(models.WordLevel(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _trained(made, trainers.WordLevelTrainer, vocab_size=200)


def _trained(made: Tokenizer, trainer: Any, **settings: Any) -> Tokenizer:
    trainer = trainer(special_tokens=SPECIAL, show_progress=False, **settings)
    made.train_from_iterator(TEXTS * 3, trainer)
    return made


FAMILIES = {
    "byte_level": lambda: _byte_level(False),
    "byte_level_prefix": lambda: _byte_level(True),
    "metaspace_never": lambda: _metaspace("never"),
    "metaspace_first": lambda: _metaspace("first"),
    "metaspace_always": lambda: _metaspace("always"),
    "metaspace_first_unsplit": lambda: _metaspace("first", split=False),
    "prepend": _prepend,
    "unigram_always": lambda: _unigram("always"),
    "unigram_first": lambda: _unigram("first"),
    "wordpiece": _wordpiece,
    "words": _words,
}
CROSSING = {
    "crossing_first": lambda: _crossing("first"),
    "crossing_always": lambda: _crossing("always"),
}


@cache
def text_tokenizer(family: str, template: str | None = None, begin: bool = False, eos: str = "</s>") -> PreTrainedTokenizerFast:
    """A tokenizer of the family, with a template of TEMPLATES by name; begin: it puts <s> in front
    of every text by itself."""
    made = (FAMILIES | CROSSING)[family]()
    if begin:
        ids = [("<s>", made.token_to_id("<s>"))]
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>",
        eos_token=eos,
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        chat_template=template and TEMPLATES[template],
        clean_up_tokenization_spaces=False,
    )
