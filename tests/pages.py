"""Writes the pages of the documentation that are made from the package: the catalogue and a page for each optimizer.

python tests/pages.py
"""

import re
from pathlib import Path

import keras_adaptive
from keras_adaptive.bench.specification import CLASSES
from keras_adaptive.catalogue import entries, page

# That of the checkout: an installed package has no pages.
FOLDER = Path(__file__).parents[1] / "keras_adaptive" / "optimizers"
# In the page of the catalogue, around its table.
BEGIN, END = "<!-- catalogue -->", "<!-- /catalogue -->"


def catalogue() -> str:
    """The page of the catalogue with the table of today."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    table = entries.markdown(entries.catalogue())
    return re.sub(f"(?s){BEGIN}.*{END}", lambda _: f"{BEGIN}\n{table}\n{END}", text)


def pages() -> dict[Path, str]:
    """The text of each page by its file, but for the catalogue."""
    made = {FOLDER / entries.page_of(cls): page.markdown(cls) for cls in CLASSES.values()}
    return made | {FOLDER / page.OPTIONS: page.markdown(keras_adaptive.AdaptiveOptimizer)}


if __name__ == "__main__":
    for file, text in {FOLDER / "README.md": catalogue(), **pages()}.items():
        file.write_text(text, encoding="utf-8")
