import csv
import json
import os
import re
import stat
from html.parser import HTMLParser

import pandas as pd
import pytest

from analysis import FIGURES, RunFolderError, load_run, write_report
from analysis.figures import METHODS_COMPARED, QUESTIONS
from analysis.report import csv_text
from search.local_storage import LocalStorage


class Page(HTMLParser):
    """Collects the tags, attributes and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words).replace("\u00a0", " "))


@pytest.fixture(scope="module")
def full_page(full_run):
    return full_run, write_report(full_run.path)


def test_the_page_holds_verdict_tables_figures_and_provenance(full_page):
    page = Page(full_page[1].read_text(encoding="utf-8"))
    assert page.tags.count("img") == 10
    for words in (
        "mixed (gradient-0002) beats ReLU at width 50, where it was learned, by 6.0 points [5.5, 6.5]",
        "Accuracy on test rows [%] with 95 % intervals, set of evolution-0002",
        "Gradient minus evolution at equal budgets",
        "RuntimeError: no more luck",
        "ldnn.base sin",
        "0123456789abcdef",
        "ldnn search full --set seed=7",
    ):
        assert words in page.text


def test_the_page_needs_no_network_and_runs_no_script(full_page):
    text = full_page[1].read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert all(link.startswith(("#", "data:")) for link in page.links)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_figures_and_the_table_lie_beside_the_page(full_page):
    folder = full_page[1].parent
    assert folder == full_page[0].path / "report"
    names = {path.name for path in (folder / "figures").iterdir()}
    assert {"accuracy_by_width.png", "accuracy_by_width.svg"} <= names
    assert len(pd.read_csv(folder / "cross_size.csv")) == 2 * 4 * 7
    assert {path.name for path in folder.iterdir()} == {"index.html", "cross_size.csv", "figures"}


def test_the_page_says_nothing_of_where_it_was_made(full_page):
    assert str(full_page[0].path.parent.parent) not in full_page[1].read_text(encoding="utf-8")


def test_hostile_names_stay_text(make_run):
    evil = "<script>alert(1)</script>"
    folder = make_run("evil", name=evil, config={"name": evil, "description": evil, "x": {evil: [evil]}})
    folder.trial("gradient-0000", status="failed", score=None, error=evil, base=evil)
    folder.evaluations("gradient-0000", {"mixed": [0.5] * 6, evil: [0.5] * 6})
    folder.evaluations("usual", {evil: [0.4] * 6})
    page = Page(write_report(folder.path).read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert page.text.count(evil) >= 6


def test_an_empty_run_has_a_report_that_says_what_to_do(make_run):
    page = Page(write_report(make_run("fresh").path).read_text(encoding="utf-8"))
    assert "No learned set has been evaluated yet" in page.text
    assert "No trial has finished yet." in page.text
    wanted = [recipe.command for recipe in FIGURES.values()]
    for command in ("ldnn evaluate", "ldnn resume"):
        found = page.text.count(f"{command} runs/fresh")
        assert found == sum(one.startswith(command) for one in wanted) > 0
    assert all(recipe.title in page.text for recipe in FIGURES.values())
    assert "img" not in page.tags


def test_a_run_without_evaluations_shows_the_search_all_the_same(make_run):
    folder = make_run()
    folder.trial("gradient-0000")
    folder.steps("gradient-0000", [0.4, 0.5])
    folder.activations("gradient-0000", [0, 1])
    page = Page(write_report(folder.path).read_text(encoding="utf-8"))
    assert page.tags.count("img") == 6


def test_damaged_parts_are_reported(make_run):
    folder = make_run()
    folder.trial("gradient-0000")
    (folder.path / "trials" / "part-bad.parquet").write_bytes(b"PAR1")
    page = Page(write_report(folder.path).read_text(encoding="utf-8"))
    assert "damaged parts left out 1" in page.text
    assert "trials/part-bad.parquet" in page.text


def test_a_bare_run_json_is_enough(make_run):
    folder = make_run("bare")
    (folder.path / "run.json").write_text(json.dumps({}))
    assert "ldnn search bare" in write_report(folder.path).read_text(encoding="utf-8")


def test_the_recorded_command_is_shown(make_run):
    folder = make_run(command=["/opt/venv/bin/ldnn", "search", "my recipe.toml"])
    text = write_report(folder.path).read_text(encoding="utf-8")
    assert "<pre>ldnn search &#39;my recipe.toml&#39;</pre>" in text
    assert "/opt/venv" not in text


def test_a_missing_figure_names_a_command_that_makes_another_run_of_the_same_recipe(make_run):
    folder = make_run("first", command=["/opt/venv/bin/ldnn", "search", "my recipe.toml", "--set", "seed=3"])
    text = Page(write_report(folder.path).read_text(encoding="utf-8")).text
    assert "ldnn search 'my recipe.toml' --set name=first-loss-violins --set task.name=van_der_pol" in text


def test_the_verdict_comes_first_then_sizes_then_figures_by_question(full_page):
    text = full_page[1].read_text(encoding="utf-8")
    heads = re.findall(r"<h2>(.*?)</h2>", text)
    assert heads[:2] == ["Verdict", "Across sizes"]
    assert heads[2:4] == ["At which sizes does the mix win?", "Does the mix win where it was learned?"]
    assert heads[-4:] == ["Missing figures, and what supplies them", "Trials", "Cost", "Configuration and provenance"]
    assert text.index('id="verdict"') < text.index("Scale passport") < text.index("<figure")


def test_questions_without_figures_are_left_out_but_for_the_comparison_of_the_methods(make_run):
    text = write_report(make_run().path).read_text(encoding="utf-8")
    assert [head for head in re.findall(r"<h2>(.*?)</h2>", text) if head in QUESTIONS] == [METHODS_COMPARED]


def test_every_caption_says_what_its_figure_cannot_say(full_page):
    text = full_page[1].read_text(encoding="utf-8")
    assert text.count("What it cannot say:") == text.count("<figcaption>") == 10


def test_another_place_can_be_given(make_run, tmp_path):
    out = tmp_path / "elsewhere" / "page.html"
    folder = make_run()
    assert write_report(load_run(folder.path), out) == out
    assert out.is_file()
    assert not (folder.path / "report").exists()


def test_a_report_that_fails_leaves_the_earlier_one(make_run, monkeypatch):
    folder = make_run()
    page = write_report(folder.path)
    before = page.read_text(encoding="utf-8")

    def break_down(descriptor, *args, **kwargs):
        os.close(descriptor)
        raise OSError("disk full")

    monkeypatch.setattr(os, "fdopen", break_down)
    with pytest.raises(OSError, match="disk full"):
        write_report(folder.path)
    assert page.read_text(encoding="utf-8") == before
    assert {path.name for path in page.parent.iterdir()} == {"index.html", "cross_size.csv"}


def test_the_page_comes_last_and_only_when_all_is_drawn(full_run, monkeypatch, tmp_path):
    replaced = []
    monkeypatch.setattr(LocalStorage, "replace", lambda storage, name, data: replaced.append(name))
    write_report(full_run.path, tmp_path / "page.html")
    assert replaced[-1] == "page.html"
    assert {"cross_size.csv", "figures/arm_violins.png"} < set(replaced)
    replaced.clear()
    monkeypatch.setattr("analysis.report.save_figure", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(full_run.path, tmp_path / "page.html")
    assert replaced == []


def test_others_may_read_the_report(make_run):
    mode = stat.S_IMODE(write_report(make_run().path).stat().st_mode)
    assert mode == 0o644


def test_a_path_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match=r"run\.json"):
        write_report(tmp_path)


def test_cells_that_a_spreadsheet_would_compute_are_guarded():
    table = pd.DataFrame({"arm": ["=1+1", "+1", "-1", "@x", "\tx", "relu"], "x": [-1.0] * 6})
    rows = list(csv.DictReader(csv_text(table).splitlines()))
    assert [row["arm"][0] for row in rows] == ["'"] * 5 + ["r"]
    assert [row["x"] for row in rows] == ["-1.0"] * 6
