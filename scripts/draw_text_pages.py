"""Draws pages of text as pictures, a kind that photographs do not teach: something to fine-tune on.

Usage: python scripts/draw_text_pages.py TEXT_FOLDER OUT_FOLDER

Every Markdown file below TEXT_FOLDER gives one page, black on white, or white on black for every third; every fifth
page goes to OUT_FOLDER/val, the others to OUT_FOLDER/train.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SIZE_PX = (480, 360)
LINES, LETTERS = 28, 90


def page(text: str, letter_px: int, is_dark: bool) -> Image.Image:
    ink, paper = ("white", "black") if is_dark else ("black", "white")
    image = Image.new("RGB", SIZE_PX, paper)
    lines = [line[:LETTERS] for line in text.splitlines() if line.strip()][:LINES]
    ImageDraw.Draw(image).multiline_text((8, 6), "\n".join(lines), ink, ImageFont.load_default(letter_px))
    return image


def main(texts: Path, out: Path) -> None:
    for number, path in enumerate(sorted(texts.rglob("*.md"))):
        folder = out / ("val" if number % 5 == 0 else "train")
        folder.mkdir(parents=True, exist_ok=True)
        drawn = page(path.read_text(encoding="utf-8"), 9 + number % 4, is_dark=number % 3 == 2)
        drawn.save(folder / f"{number:02}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
