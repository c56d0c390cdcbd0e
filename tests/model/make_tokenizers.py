#!/usr/bin/python3
"""Makes the small tokenizers of tests/model/golden/tokenizers and their golden ids.

    make_tokenizers.py [SHARED]

With SHARED (the folder that holds tokenizers/gpt2 and models/TinyStories-656K) also the golden ids of those two,
whose tokenizers are not in the tree. Needs python3-regex; tests read the files it wrote.
"""
import collections
import json
import os
import sys

import tokenizer_reference as ref

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden", "tokenizers")
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
TEXT = """The phone keeps its words; the edge node keeps the rest of the model. It's 2024, isn't it? They'll
say "we've seen 128 tokens, 3.14 and 1,000,000 of them", and she'd answer: I'm sure you're right!
  def front(x):
\treturn embed(x)   # indented by a tab
Die Straßenbahn fährt über die Brücke, naïve Café-Gäste zählen Ärger. Привет, мир! Καλημέρα κόσμε.
日本語の文章と中文句子。 한국어 문장. \U0001f600\U0001f680\U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301 \u00e9 ½ ⅷ ١٢٣
IT'S SHOUTING; WE'LL SEE. the the the the they them then there these this that than thing think
"""
CASES = [
    "", " ", "  ", "a", " a", "the", " the", "The phone keeps its words.", "it's isn't they'll we've I'm you're she'd",
    "IT'S ISN'T THEY'LL", "it\u2019s", "'s", "''ss", "'\u017f 's 'S", "\u212a's", "0", "12", "123", "1234", "12345678",
    "3.14159", "1,000,000", "a1b22c333", "½ ⅷ ١٢٣٤", "  two spaces", "trailing  ", "trailing   x", "\t", "\t\tx",
    "\n", "\n\n", "\r\n\r\n x", "a\n b\n\n  c\r\n\td", " \n \n ", "x  \n  y", "\u00a0x", "x\u00a0\u00a0y", "\u2003\u2003x",
    "\u0085x", "x \u0085 y", "\u180ex \u180e", "\u200bx", "\u2028x\u2029", "\x0b\x0c\x1c\x1f x", "\x00", "a\x00b", "\x7f",
    "é e\u0301 ñ ü", "Straßenbahn über Ärger", "Привет, мир!", "Καλημέρα κόσμε", "日本語の文章", "中文句子。", "한국어",
    "\U0001f600", "x\U0001f600y", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "\U00010348",
    "!!!", "?!...", "#$%^&*()", "a-b_c/d\\e", "def f(x):\n    return x  # y\n", "{\"k\": [1, 2]}", "http://x.y/z?q=1",
    "<|endoftext|>", "a<|endoftext|>b", "a <|endoftext|> b", "<|endoftext|><|endoftext|>", "<|endoftext", "<|begin|>x",
    "<|begin|> <|beginning|>", "<unk>", "x <unk> y", "<s>", "<s> the</s>", " <s>the", "the<0x41>", "<0x41>", "▁", "▁the", "the▁the",
    "<|start_story|>Once upon a time", "Once upon a time, there was a little girl named Lily.", "x <|end_story|>",
    "She said, \"Hello!\" and they played together.\nThe end.", "the " * 40, "a" * 300, "ab" * 100, " " * 50 + "x",
    "thethethethe", "\ufffd", "\ufeffx", "\ue000",
    b"\xff", b"a\xffb", b"\xc3", b"\xc3(", b"\xe2\x82", b"x\xe2\x82y", b"\xf0\x9f\x98", b"\xf0\x9f\x98\xf0\x9f\x98\x80",
    b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xe0\x80\xaf", b"caf\xe9 na\xefve", b"\x80\x80\x80", b"the \xf8\x88 the",
]


def added(i, content, normalized=False):
    return {"id": i, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": normalized, "special": True}


def template(name, i):
    return {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": name, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {name: {"id": name, "ids": [i], "tokens": [name]}}}


def spec(tokens, normalizer, pre, post, decoder, model):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens, "normalizer": normalizer,
            "pre_tokenizer": pre, "post_processor": post, "decoder": decoder,
            "model": dict({"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                           "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                           "ignore_merges": False}, **model)}


def learn(words, n):
    """Merges of a character BPE over words: most frequent pair first, ties to the smaller pair of strings."""
    words, merges = [(list(w), c) for w, c in words.items()], []
    while len(merges) < n:
        pairs = collections.Counter()
        for s, c in words:
            for p in zip(s, s[1:]):
                pairs[p] += c
        (a, b), _ = min(pairs.items(), key=lambda kv: (-kv[1], kv[0]))
        if (a, b) in merges:
            break
        merges.append((a, b))
        for s, _ in words:
            i = 0
            while i + 1 < len(s):
                if (s[i], s[i + 1]) == (a, b):
                    s[i:i + 2] = [a + b]
                i += 1
    return merges


def vocabulary(first, merges):
    vocab = {t: i for i, t in enumerate(first)}
    for a, b in merges:
        vocab.setdefault(a + b, len(vocab))
    return vocab


def byte_words(pattern):
    words = collections.Counter(ref.isolated(pattern, TEXT))
    return {"".join(ref.ALPHABET[b] for b in w.encode()): c for w, c in words.items()}


def gpt2_style():
    merges = learn(byte_words(ref.GPT2), 250)
    vocab = vocabulary(["<|endoftext|>"] + [ref.ALPHABET[b] for b in range(256)], merges)
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    return spec([added(0, "<|endoftext|>", True)], None, level, template("<|endoftext|>", 0), level,
                {"vocab": vocab, "merges": [a + " " + b for a, b in merges]})


def llama3_style():
    """Merges as lists, ignore_merges with a word that no merge reaches, two added tokens of which one starts the other."""
    merges = learn(byte_words(LLAMA3), 250)
    vocab = vocabulary([ref.ALPHABET[b] for b in range(256)], merges)
    vocab["isn"] = len(vocab)
    vocab["\u0120Once"] = len(vocab)
    n = len(vocab)
    pre = {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}
    post = {"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
        template("<|begin|>", n)]}
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    return spec([added(n, "<|begin|>"), added(n + 1, "<|beginning|>"), added(n + 2, "<|endoftext|>")], None, pre, post,
                level, {"ignore_merges": True, "vocab": vocab, "merges": [list(m) for m in merges]})


def digits_style():
    merges = learn(byte_words(ref.GPT2), 100)
    vocab = vocabulary([ref.ALPHABET[b] for b in range(256)], merges)
    pre = {"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]}
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    return spec([], None, pre, None, level, {"vocab": vocab, "merges": [a + " " + b for a, b in merges]})


def fallback_style():
    """As Llama 2's: the text is one word, spaces are \u2581, all 256 byte tokens."""
    text = "\u2581" + TEXT.replace(" ", "\u2581")
    lines = collections.Counter(text.split("\n"))
    merges = learn(lines, 300)
    letters = sorted(c for c in set(text) if ord(c) < 0x400 and c not in "\n\t#½" or c == "\u2581")
    merges = [(a, b) for a, b in merges if set(a + b) <= set(letters)]
    first = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)] + letters
    normalizer = {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "\u2581"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]}
    decoder = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    return spec([added(0, "<unk>"), added(1, "<s>"), added(2, "</s>", True)], normalizer, None, template("<s>", 1), decoder,
                {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "vocab": vocabulary(first, merges),
                 "merges": [a + " " + b for a, b in merges]})


def unknown_style():
    """No byte tokens and no fusing: every unknown character is an unk of its own."""
    s = fallback_style()
    s["model"]["vocab"] = {t: i for i, t in enumerate(t for t in s["model"]["vocab"] if not t.startswith("<0x"))}
    s["model"].update(byte_fallback=False, fuse_unk=False)
    return s


def write_golden(name, tokenizer_spec, cases):
    tokenizer = ref.Tokenizer(tokenizer_spec)
    with open(os.path.join(HERE, name + ".golden"), "w") as f:
        for text in cases:
            f.write("%s\t%s\n" % (text.hex() or "-", " ".join(map(str, tokenizer.encode(text)))))


def main():
    os.makedirs(HERE, exist_ok=True)
    cases = [c if isinstance(c, bytes) else c.encode() for c in CASES] + [TEXT.encode()]
    styles = {"gpt2-style": gpt2_style, "llama3-style": llama3_style, "digits-style": digits_style,
              "fallback-style": fallback_style, "unknown-style": unknown_style}
    for name, make in styles.items():
        made = make()
        with open(os.path.join(HERE, name + ".json"), "w", encoding="utf-8") as f:
            json.dump(made, f, ensure_ascii=False, separators=(",", ":"))
            f.write("\n")
        write_golden(name, made, cases)
    with open(os.path.join(HERE, "train.txt"), "w", encoding="utf-8", newline="") as f:
        f.write(TEXT)
    with open(os.path.join(HERE, "train.golden"), "w", encoding="utf-8") as f:
        f.write("\n".join(ref.train(500, TEXT)) + "\n")
    if len(sys.argv) > 1:
        gpt2 = os.path.join(sys.argv[1], "tokenizers", "gpt2")
        write_golden("gpt2", ref.gpt2_spec(os.path.join(gpt2, "vocab.json"), os.path.join(gpt2, "merges.txt")), cases)
        with open(os.path.join(sys.argv[1], "models", "TinyStories-656K", "tokenizer.json"), encoding="utf-8") as f:
            write_golden("tinystories", json.load(f), cases)


if __name__ == "__main__":
    main()
