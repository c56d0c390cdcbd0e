#!/usr/bin/python3
"""Reference tokenizer: an independent reading of tokenizer.json, written for clarity, not speed.

Needs python3-regex. Words are merged by the textbook loop (find the lowest-ranked pair, merge its leftmost
occurrence, start again), patterns run in the `regex` module as the file spells them. Added tokens follow
Hugging Face: those with "normalized": false are found in the raw text, the others, their own text normalised
too, in the normalised pieces between. No begin token is added.

    tokenizer_reference.py encode TOKENIZER.json FILE      ids of a file (bytes that are not UTF-8: U+FFFD)
    tokenizer_reference.py cases  TOKENIZER.json CASES     golden lines: hex of the text, a tab, ids
    tokenizer_reference.py gpt2   VOCAB.json MERGES.txt    a tokenizer.json from GPT-2's two files
    tokenizer_reference.py train  N FILE                   merges of a byte-level BPE, by recounting each time

CASES has one case a line, written as a Python bytes literal.
"""
import ast
import collections
import json
import sys

import regex

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def byte_alphabet():
    """GPT-2's bytes_to_unicode: printable bytes stand for themselves, the rest move up from 256."""
    own = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    table, n = {}, 0
    for b in range(256):
        if b in own:
            table[b] = chr(b)
        else:
            table[b] = chr(256 + n)
            n += 1
    return table


ALPHABET = byte_alphabet()


def isolated(pattern, piece):
    out, at = [], 0
    for m in regex.finditer(pattern, piece):
        if m.start() > at:
            out.append(piece[at:m.start()])
        if m.end() > m.start():
            out.append(m.group())
        at = m.end()
    return out + ([piece[at:]] if at < len(piece) else [])


class Tokenizer:
    def __init__(self, spec):
        model = spec["model"]
        self.vocab = model["vocab"]
        self.rank = {}
        for i, m in enumerate(model["merges"]):
            self.rank[tuple(m.split(" ")) if isinstance(m, str) else tuple(m)] = i
        self.model = model
        self.normalizers = self.flat(spec.get("normalizer"), "normalizers")
        self.steps = self.flat(spec.get("pre_tokenizer"), "pretokenizers")
        added = spec.get("added_tokens") or []
        self.raw = {t["content"]: t["id"] for t in added if not t["normalized"]}
        self.normalized = {self.normalize(t["content"]): t["id"] for t in added if t["normalized"]}

    @staticmethod
    def flat(step, key):
        if not step:
            return []
        return step[key] if step["type"] == "Sequence" else [step]

    def normalize(self, text):
        for n in self.normalizers:
            if n["type"] == "Prepend":
                text = n["prepend"] + text if text else text
            else:
                text = text.replace(n["pattern"]["String"], n["content"])
        return text

    @staticmethod
    def split_added(tokens, text):
        if not tokens:
            return [(None, text)]
        by_length = sorted(tokens, key=len, reverse=True)
        out, at = [], 0
        for m in regex.finditer("|".join(regex.escape(t) for t in by_length), text):
            out += [(None, text[at:m.start()]), (tokens[m.group()], None)]
            at = m.end()
        return out + [(None, text[at:])]

    def words(self, text):
        words = [text]
        for step in self.steps:
            if step["type"] == "Split":
                words = [w for p in words for w in isolated(step["pattern"]["Regex"], p)]
            elif step["type"] == "Digits":
                each = step["individual_digits"]
                words = [w for p in words for w in isolated(r"\p{N}" if each else r"\p{N}+", p)]
            else:
                if step["add_prefix_space"]:
                    words = [p if p.startswith(" ") else " " + p for p in words]
                if step.get("use_regex", True):
                    words = [w for p in words for w in isolated(GPT2, p)]
                words = ["".join(ALPHABET[b] for b in w.encode()) for w in words]
        return words

    def symbols(self, word):
        """The word's first symbols: characters, else their bytes, else unk (one for a run if fused)."""
        out = []
        for c in word:
            pieces = ["<0x%02X>" % b for b in c.encode()]
            if c in self.vocab:
                out.append(c)
            elif self.model.get("byte_fallback") and all(p in self.vocab for p in pieces):
                out += pieces
            elif self.model.get("unk_token") is not None:
                out.append(None)
        fused = []
        for s in out:
            if not (s is None and fused and fused[-1] is None and self.model.get("fuse_unk")):
                fused.append(s)
        return [self.model["unk_token"] if s is None else s for s in fused]

    def bpe(self, word):
        if self.model.get("ignore_merges") and word in self.vocab:
            return [self.vocab[word]]
        s = self.symbols(word)
        while True:
            best = min(((self.rank[p], i) for i, p in enumerate(zip(s, s[1:])) if p in self.rank), default=None)
            if best is None:
                return [self.vocab[t] for t in s]
            i = best[1]
            s[i:i + 2] = [s[i] + s[i + 1]]

    def encode(self, data):
        ids = []
        for token, piece in self.split_added(self.raw, data.decode("utf-8", "replace")):
            if token is not None:
                ids.append(token)
                continue
            for token2, part in self.split_added(self.normalized, self.normalize(piece)):
                if token2 is not None:
                    ids.append(token2)
                elif part:
                    ids += [i for w in self.words(part) for i in self.bpe(w)]
        return ids


def gpt2_spec(vocab_file, merges_file):
    with open(vocab_file, encoding="utf-8") as f:
        vocab = json.load(f)
    with open(merges_file, encoding="utf-8") as f:
        merges = [line.rstrip("\n") for line in f if line.strip() and not line.startswith("#version")]
    end = {"id": vocab["<|endoftext|>"], "content": "<|endoftext|>", "single_word": False, "lstrip": False,
           "rstrip": False, "normalized": True, "special": True}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [end], "normalizer": None,
            "pre_tokenizer": level, "post_processor": dict(level, trim_offsets=False), "decoder": level,
            "model": {"dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "",
                      "fuse_unk": False, "vocab": vocab, "merges": merges}}


def train(n, text):
    """Merges by definition: count all pairs again, take the most frequent (ties: smaller ids)."""
    words = collections.Counter(isolated(GPT2, text))
    words = [([b + 1 for b in w.encode()], c) for w, c in words.items()]
    tokens = [None] + [bytes([b]) for b in range(256)]
    merges = []
    while len(tokens) < n:
        pairs = collections.Counter()
        for s, c in words:
            for p in zip(s, s[1:]):
                pairs[p] += c
        (a, b), _ = min(pairs.items(), key=lambda kv: (-kv[1], kv[0]))
        merges.append((a, b))
        joined = tokens[a] + tokens[b]
        if joined in tokens:
            new = tokens.index(joined)
        else:
            new = len(tokens)
            tokens.append(joined)
        for s, _ in words:
            i = 0
            while i + 1 < len(s):
                if (s[i], s[i + 1]) == (a, b):
                    s[i:i + 2] = [new]
                i += 1
    spell = lambda t: "".join(ALPHABET[b] for b in tokens[t])
    return [spell(a) + " " + spell(b) for a, b in merges]


def main():
    what = sys.argv[1]
    if what == "gpt2":
        json.dump(gpt2_spec(sys.argv[2], sys.argv[3]), sys.stdout)
    elif what == "train":
        with open(sys.argv[3], "rb") as f:
            print("\n".join(train(int(sys.argv[2]), f.read().decode("utf-8", "replace"))))
    else:
        with open(sys.argv[2], encoding="utf-8") as f:
            tokenizer = Tokenizer(json.load(f))
        with open(sys.argv[3], "rb") as f:
            data = f.read()
        if what == "encode":
            print("\n".join(str(i) for i in tokenizer.encode(data)))
        else:
            for line in data.decode().splitlines():
                text = ast.literal_eval(line)
                print("%s\t%s" % (text.hex() or "-", " ".join(map(str, tokenizer.encode(text)))))


if __name__ == "__main__":
    main()
