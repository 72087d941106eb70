"""What flows in the benchmarks: terminal output as agents make it, 1 MiB, the same in every run.

Not zeros and not noise: coloured diffs, spinners that move the cursor, tables, UTF-8 prose.
"""

import random
from pathlib import Path

from bench.native import BUILD

CORPUS_BYTES = 1 << 20
_TEXT = """
the session writes bytes and every viewer reads them from its own offset while a log keeps what was said
→ naïve façade “quoted” … 数据 接続 ошибка ✓ ✗ ━━━ def return import class async await None
"""
_WORDS = _TEXT.split()


def corpus() -> Path:
    """Give the file, written on first use."""
    path = BUILD / "corpus"
    if not path.exists() or path.stat().st_size != CORPUS_BYTES:
        BUILD.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make())
    return path


def make() -> bytes:
    """Make the corpus."""
    chance = random.Random(7)
    lines = bytearray()
    number = 0
    while len(lines) < CORPUS_BYTES:
        number += 1
        words = " ".join(chance.choices(_WORDS, k=chance.randint(3, 14)))
        match chance.randrange(8):
            case 0:
                line = f"\x1b[32m+ {words}\x1b[0m\r\n\x1b[31m- {words[::-1]}\x1b[0m\r\n"
            case 1:
                line = f"\r\x1b[2K\x1b[38;5;{chance.randrange(256)}m⠋\x1b[0m Thinking… ({number}s)"
            case 2:
                line = f"\x1b[{chance.randint(1, 24)};{chance.randint(1, 80)}H\x1b[7m{words[:30]}\x1b[27m"
            case 3:
                line = f"\x1b[1m{number:>6}\x1b[22m │ {words}\x1b[K\r\n"
            case 4:
                line = f"\x1b[38;2;{number % 256};120;200m{words}\x1b[39m\r\n"
            case _:
                line = f"{words}\r\n"
        lines += line.encode()
    return bytes(lines[:CORPUS_BYTES])
