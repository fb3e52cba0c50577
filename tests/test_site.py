"""The site has every page of the repository and of the public names, and can be read without a network."""

import html.parser
import inspect
import json
import os
import re
import subprocess
from pathlib import Path, PurePosixPath

import pytest

import keras_adaptive
from keras_adaptive.bench.specification import CLASSES
from keras_adaptive.catalogue.entries import page_of

ROOT = Path(__file__).parents[1]
each_name = pytest.mark.parametrize("name", keras_adaptive.__all__)
pytestmark = pytest.mark.on("tensorflow")


def paths_of(nav):
    """The paths in the navigation, at any depth."""
    if isinstance(nav, str):
        return [nav]
    return [path for each in (nav.values() if isinstance(nav, dict) else nav) for path in paths_of(each)]


@pytest.mark.quick
def test_every_page_is_in_the_navigation():
    import yaml

    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("only a checkout can say which pages belong to the repository")
    pages = listed.stdout.split()
    navigation = yaml.safe_load((ROOT / ".ci" / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    patterns = ["/" + path for path in paths_of(navigation)]
    assert len(pages) > 5
    assert not [page for page in pages if not any(PurePosixPath("/" + page).match(path) for path in patterns)]


# The site as it is built


@pytest.fixture(scope="module")
def site():
    if "KERAS_ADAPTIVE_SITE" not in os.environ:
        pytest.skip("KERAS_ADAPTIVE_SITE, the folder of a site that was built, is not set; .ci/run builds one")
    return Path(os.environ["KERAS_ADAPTIVE_SITE"])


class Texts(html.parser.HTMLParser):
    """The texts of the blocks of code, and of the terms of definition lists."""

    def __init__(self, page):
        super().__init__()
        self.found, self.inside = {"pre": [], "dt": []}, None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag in self.found:
            self.inside = tag
            self.found[tag].append("")

    def handle_endtag(self, tag):
        if tag == self.inside:
            self.inside = None

    def handle_data(self, text):
        if self.inside:
            self.found[self.inside][-1] += text


def address(name):
    """Where the site has the page of a public name."""
    item = getattr(keras_adaptive, name)
    return f"keras_adaptive/optimizers/{Path(page_of(item)).stem}.html" if name in CLASSES else f"reference/{name}.html"


@each_name
def test_every_public_name_has_a_page(site, name):
    """With its equations and its example as code, as they are in the docstring."""
    item = getattr(keras_adaptive, name)
    code = "".join(Texts((site / address(name)).read_text(encoding="utf-8")).found["pre"])
    before_lists = re.split(r"^(?:Args|Raises):", inspect.getdoc(item), flags=re.MULTILINE)[0]
    lines = re.findall(r"^    (.+)$", before_lists, re.MULTILINE)
    lines += re.findall(r"^>>> .+$", inspect.getdoc(item), re.MULTILINE)
    assert lines
    assert [line for line in lines if line not in code] == []


@pytest.mark.parametrize("name", [name for name in keras_adaptive.__all__ if name not in CLASSES])
def test_the_reference_has_every_argument(site, name):
    page = Texts((site / "reference" / f"{name}.html").read_text(encoding="utf-8"))
    assert f"keras_adaptive.{name}(" in "".join(page.found["pre"])
    parameters = set(inspect.signature(getattr(keras_adaptive, name)).parameters)
    assert {term.strip("*") for term in page.found["dt"]} >= parameters


def test_the_search_finds_every_public_name(site):
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {entry["location"]: entry["title"] for entry in index["docs"]}
    assert {address(name): name for name in keras_adaptive.__all__}.items() <= found.items()


def test_nothing_is_loaded_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(keras_adaptive.__all__)
    loaded = r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=[\"']?((?:https?:)?//[^\"' >]*)"
    assert [found for page in pages for found in re.findall(loaded, page.read_text(encoding="utf-8"))] == []
