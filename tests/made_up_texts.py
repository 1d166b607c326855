"""Texts in several scripts, made of syllables."""

import random

ALPHABETS = ("aábcčdďeéfghiíjklľmnňoóôprsštťuúvyýzž", "абвгдежзиклмнопрст", "αβγδεζηθικλμ", "日本語中文字", "০১২কখগ")


def make_texts(count: int, seed: int) -> list[str]:
    """Sentences in several scripts, from a fixed stock of syllables so that subwords repeat."""
    syllables = random.Random(0)
    stock = {a: ["".join(syllables.choices(a, k=syllables.randint(1, 3))) for _ in range(40)] for a in ALPHABETS}
    rng = random.Random(seed)
    sentences = []
    for _ in range(count):
        alphabet = rng.choices(ALPHABETS, weights=(6, 2, 1, 1, 1))[0]
        words = ["".join(rng.choices(stock[alphabet], k=rng.randint(1, 3))) for _ in range(rng.randint(1, 9))]
        words[0] = words[0].capitalize()
        sentences.append(" ".join(words) + rng.choice([".", "!", "?", ", 12 %", " – 3,5", "\u00a0„x“"]))
    return sentences


TRAIN, TEXTS = make_texts(500, 1), make_texts(400, 2)
