"""Every block of Python in the guide and in the README runs."""

import re

import pytest
from conftest import ROOT

PAGE = ROOT / "docs" / "python.md"
#: The blocks after each heading; those of a section go on from each other and from the first section.
SECTIONS = {
    text.splitlines()[0]: re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for text in PAGE.read_text().split("\n## ")[1:]
}


def test_the_guide_has_examples():
    assert sum(map(len, SECTIONS.values())) > 5


@pytest.mark.parametrize("section", [name for name, blocks in SECTIONS.items() if blocks])
def test_guide(section, monkeypatch):
    pytest.importorskip("PIL.Image")
    monkeypatch.chdir(ROOT)
    first = next(iter(SECTIONS))
    names: dict = {}
    for block in SECTIONS[first] + (SECTIONS[section] if section != first else []):
        for package in ("coremltools", "torch"):
            if f"import {package}" in block:
                pytest.importorskip(package)
        exec(compile(block, f"{PAGE.name}, {section}", "exec"), names)


README = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", README, ids=lambda block: block.split()[1])
def test_readme(block, monkeypatch):
    for package in re.findall(r"^(?:import|from) (\w+)", block, re.MULTILINE):
        pytest.importorskip(package)
    monkeypatch.chdir(ROOT)
    exec(compile(block, "README.md", "exec"), {})


def test_the_readme_has_examples():
    assert len(README) == 2
