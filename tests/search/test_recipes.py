"""Recipes: all shipped ones load, and everything that can be wrong with one is said in plain words."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from search.config import ConfigError, RunConfig, canonical, methods
from search.config_keys import keys_of
from search.recipes import LARGEST_RECIPE, list_recipes, load_recipe

RECIPES = Path(__file__).parents[2] / "jobs" / "recipes"
SHIPPED = [
    "distancing",
    "mnist1d-algorithms",
    "mnist1d-compare",
    "mnist1d-evolution",
    "mnist1d-gradient",
    "paper-bases",
    "paper-deep-subnetworks",
    "paper-depths",
    "paper-outer-steps",
    "paper-three-types",
    "quickstart",
    "scale-safe",
    "smoke",
    "van-der-pol",
    "vgg-scale",
]

BASE = """
description = "what the tables below are laid over"
[search.space]
inner_lr = { low = 1e-3, high = 0.1, log = true }
width = { choices = [20, 50] }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base.toml").write_text(BASE)
    (tmp_path / "plain.toml").write_text("")
    return tmp_path


def refusal(recipe: str, overrides: Sequence[str], folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_recipe(recipe, overrides, folder=folder)
    words = str(caught.value)
    for jargon in ("pydantic", "http", "Traceback", "type=", "Input should", "<range>", "<choices>", "None"):
        assert jargon not in words
    assert len(words.splitlines()) == 1 + len(caught.value.problems)  # nothing given can fake a line
    assert words.isprintable() or words.replace("\n", "").isprintable()
    return words


# An override of the recipe above → what the refusal must say.  A new line is a new test.
BAD_OVERRIDES: list[tuple[str, list[str]]] = [
    # names and words
    ("method=genetc", ["method = 'genetc'", "one of gradient, evolution, both", "'gradient'", "evolution.algorithm"]),
    ("method=Both", ["method = 'Both'", "Did you mean 'both'?"]),
    ("method=", ["method = ''", "one of gradient, evolution, both"]),
    ("method=3", ["method = 3", "one of gradient"]),
    ("method=[gradient]", ["method = '[gradient]'", "one of gradient"]),
    ("name=../x", ["name = '../x'", "letters, digits, dots"]),
    ("name=-x", ["name = '-x'", "a letter or digit first"]),
    ("name=" + "x" * 65, ["name = ", "1 to 64 letters"]),
    ('name="x\\n"', [r"name = 'x\n'", "1 to 64 letters"]),
    ('name="a/b"', ["name = 'a/b'"]),
    ("name=5", ["name = 5", "1 to 64 letters"]),
    ("description=" + "x" * 2001, ["description = ", "at most 2000 characters"]),
    ("description=true", ["description = true", "a text"]),
    ("task.name=mnist2d", ["task.name = 'mnist2d': must be one of mnist1d, van_der_pol,", "Did you mean 'mnist1d'?"]),
    ("task.name=5", ["task.name = 5: must be one of mnist1d, van_der_pol"]),
    ("task=mnist", ["task = 'mnist': must be a table with a name, one of mnist1d, van_der_pol"]),
    ("task.mu=3", ["no such key in task of this name, only in van_der_pol. Set task.name too"]),
    ("task.rows=300", ["only in fashion_mnist or mnist or cifar10. Set task.name too"]),
    ("task.sampels=3000", ["task.sampels = 3000: there is no such key. Did you mean task.samples?"]),
    ("task={name='van_der_pol',mu=99}", ["task.mu = 99: must be a number from 0 to 50."]),
    ("task={name='van_der_poll',mu=3}", ["1 problem", "task.name = 'van_der_poll'", "Did you mean 'van_der_pol'?"]),
    ("task={name='van_der_pol',steps=10000,trajectories=10000}", ["`trajectories times steps <= 1000000` must hold"]),
    ("task={name='van_der_pol',trajectories=10,validation_fraction=0.05}", ["`validation_fraction leaves an orbit to"]),
    ("task={name='van_der_pol',trajectories=10,steps=5}", ["rows to train on (30)` must hold, but got (inner.batch_"]),
    ("task={name='digits',validation_fraction=0.9}", ["inner.batch_size <= rows to train on (144)` must hold"]),
    ("task={name='mnist',rows=10}", ["`rows is 0 or at least 20, two of each class` must hold, but got (rows = 10)"]),
    ("task={name='mnist',rows=200}", ["rows to train on (160)` must hold, but got", "task.rows = 200"]),
    ("task={name='mnist',checksum='abc'}", ["task.checksum = 'abc': must be 64 hexadecimal digits, or nothing"]),
    ("task={name='mnist',path=3}", ["task.path = 3: must be a path, as text"]),
    ("task.label='a b'", ["task.label = 'a b': must be 1 to 40 letters, digits"]),
    ("ldnn.base=sine", ["ldnn.base = 'sine'", "one of zero, identity", "Did you mean 'sin'?"]),
    ("ldnn.base=ReLu", ["Did you mean 'relu'?"]),
    ("inner.optimizer=adamw", ["one of rmsprop, sgd, adam", "Did you mean 'adam'?"]),
    ("gradient.estimator=unroled", ["one of unrolled, truncated, first_order, es, pes", "Did you mean 'unrolled'?"]),
    ("evolution.algorithm=cma-es", ["one of genetic, openai_es, snes", "Did you mean 'cma_es'?"]),
    ("evolution.algorithm=random", ["'random' is a value of search.sampler"]),
    ("search.sampler=grid", ["one of tpe, random, cmaes, nsga2, gp, qmc"]),
    ("resources.device=gpu", ["one of cpu, cuda, auto", "Did you mean 'cpu'?"]),
    ("evaluation.lr_protocol=fair", ["evaluation.lr_protocol = 'fair': must be one of shared, per_arm_size"]),
    ("evaluation.usual=[relu]", ["evaluation.usual = '[relu]'", "a list of"]),
    ("evaluation.usual=['Swish']", ["evaluation.usual[0] = 'Swish'", "relu, silu"]),
    ("evaluation.usual=['zero']", ["evaluation.usual[0] = 'zero'", "'zero' is a value of ldnn.base"]),
    # numbers
    ("ldnn.width=ten", ["ldnn.width = 'ten'", "a whole number from 1 to 4096"]),
    ("ldnn.width=0", ["ldnn.width = 0", "from 1 to 4096"]),
    ("ldnn.width=4097", ["ldnn.width = 4097", "from 1 to 4096"]),
    ("ldnn.width=20.5", ["ldnn.width = 20.5", "a whole number"]),
    ("ldnn.width=2e1", ["a whole number", "Write 20, without"]),
    ("ldnn.width=true", ["ldnn.width = true", "a whole number"]),
    ("ldnn.width='50'", ["ldnn.width = '50'", "Write 50, without quotes"]),
    ("ldnn.width='inf'", ["ldnn.width = 'inf': must be a whole number from 1 to 4096.\n"]),
    ("ldnn.width=1979-05-27", ["ldnn.width = 1979-05-27", "a whole number"]),
    ("ldnn.width=" + "9" * 6000, ["4000 characters"]),
    ("ldnn.width=" + "9" * 3000, ["more than 30 digits", "from 1 to 4096"]),
    ("ldnn.width=0x" + "f" * 3900, ["more than 30 digits", "from 1 to 4096"]),
    ("ldnn.num_types=4", ["ldnn.num_types = 4", "from 1 to 3"]),
    ("ldnn.depth=0", ["ldnn.depth = 0", "from 1 to 64"]),
    ("ldnn.subnet_scale=0", ["ldnn.subnet_scale = 0", "above 0"]),
    ("ldnn.table_range=0.5", ["ldnn.table_range = 0.5", "from 1 to 100"]),
    ("ldnn.table_scale=2", ["ldnn.table_scale = 2", "from 4 to 4096"]),
    ("ldnn.table_scale=48", ["`table_scale is a power of two` must hold", "table_scale = 48"]),
    ("ldnn.table_range=2.3", ["`table_range times table_scale is whole` must hold", "table_range = 2.3"]),
    ("inner.steps=0", ["inner.steps = 0", "from 1 to 100000"]),
    ("inner.lr=nan", ["inner.lr = nan", "above 0"]),
    ("inner.noise=inf", ["inner.noise = inf", "a number from 0 to 1"]),
    ("inner.noise=-0.1", ["inner.noise = -0.1", "from 0 to 1"]),
    ("inner.noise=.1", ["inner.noise = '.1'", "Write 0.1, without quotes"]),
    ("inner.momentum=1", ["inner.momentum = 1", "at least 0 and below 1"]),
    ("inner.decay=1.0", ["inner.decay = 1.0", "above 0 and below 1"]),
    ("gradient.outer_lr=0", ["gradient.outer_lr = 0", "above 0"]),
    ("gradient.outer_lr=1e400", ["gradient.outer_lr = inf", "above 0"]),
    ("gradient.clamp=-0.1", ["gradient.clamp = -0.1", "above 0"]),
    ("evolution.population=1", ["evolution.population = 1", "from 2 to 4096"]),
    ("evolution.crossover_rate=50%", ["evolution.crossover_rate = '50%'", "from 0 to 1"]),
    ("task.samples=999", ["task.samples = 999", "from 1000 to 100000"]),
    ("task.validation_fraction=1", ["task.validation_fraction = 1", "from 0.01 to 0.9"]),
    ("seed=-1", ["seed = -1", "from 0 to 2147483647"]),
    ("seed=2147483648", ["seed = 2147483648", "from 0 to 2147483647"]),
    ("search.trials=0", ["search.trials = 0", "from 1 to 100000"]),
    ("search.records=1", ["search.records = 1", "from 2 to 1000"]),
    ("resources.workers=-1", ["resources.workers = -1", "from 0 to 10000"]),
    ("resources.threads=null", ["resources.threads = 'null'", "from 1 to 1024"]),
    # lists
    ("ldnn.subnet_hidden=50", ["ldnn.subnet_hidden = 50", "a list of 1 to 3 values", "Write [50]."]),
    ("ldnn.subnet_hidden=[]", ["ldnn.subnet_hidden = []", "a list of 1 to 3"]),
    ("ldnn.subnet_hidden=[1,2,3,4]", ["a list of 1 to 3 values"]),
    ("ldnn.subnet_hidden=[50, 513]", ["ldnn.subnet_hidden[1] = 513", "from 1 to 512"]),
    ("evaluation.widths=20,50", ["evaluation.widths = '20,50'", "Write [20,50]."]),
    ("evaluation.widths=[20, '50']", ["evaluation.widths[1] = '50'", "Write 50"]),
    ("evaluation.widths=[20, 20]", ["`no value stands twice in widths` must hold"]),
    ("evaluation.depths=[65]", ["evaluation.depths[0] = 65", "from 1 to 64"]),
    # unknown keys
    ("ldnn.widht=50", ["ldnn.widht = 50: there is no such key", "Did you mean ldnn.width?"]),
    ("width=50", ["width = 50: there is no such key", "ldnn.width"]),
    ("lddn.width=50", ["lddn.width = 50", "Did you mean ldnn.width?"]),
    ("inner.outer_lr=1", ["inner.outer_lr = 1", "gradient.outer_lr"]),
    ("evolution.populaton=8", ["Did you mean evolution.population?"]),
    ("lr=0.1", ["lr = 0.1", "inner.lr or evaluation.lr"]),
    ("trials=3", ["Did you mean search.trials?"]),
    ("colour=blue", ["colour = 'blue'", "Known here: name, description"]),
    ("ldnn.colour=blue", ["Known here: num_types, base, architecture"]),
    ("extends=smoke", ["extends = 'smoke'", "only stand in a recipe file"]),
    # keys without form
    ("a.b", ["--set 'a.b'", "form key=value"]),
    ("ldnn.width", ["form key=value", "Did you mean ldnn.width=...?"]),
    ("", ["--set ''", "form key=value"]),
    ("=3", ["form key=value"]),
    ("ldnn..width=3", ["form key=value"]),
    ("ldnn.=3", ["form key=value"]),
    ("ldnn width=3", ["form key=value"]),
    ("evaluation.widths[0]=3", ["form key=value"]),
    ("evaluation.widths.0=3", ["evaluation.widths = {0 = 3}", "a list of"]),
    ("a." * 20 + "b=1", ["more than 8 parts"]),
    ("description.x=1", ["description.x = 1", "description is a single value"]),
    # tables
    ("ldnn=3", ["ldnn = 3", "a table with the keys num_types, base"]),
    ("search.space=[1]", ["search.space = [1]", "a table with the keys inner_lr"]),
    # the space
    ("search.space.inner_lr.low=-1", ["search.space.inner_lr.low = -1", "above 0"]),
    ("search.space.inner_lr.low=0", ["search.space.inner_lr.low = 0", "above 0"]),
    ("search.space.inner_lr.low=nan", ["search.space.inner_lr.low = nan", "above 0"]),
    ("search.space.inner_lr.high=inf", ["search.space.inner_lr.high = inf", "at most 1000000"]),
    ("search.space.inner_lr.low=0.2", ["`low < high` must hold", "low = 0.2, high = 0.1"]),
    ("search.space.inner_lr.low=0.1", ["`low < high` must hold"]),
    ("search.space.inner_lr.log=True", ["must be true or false", "Write true, without quotes"]),
    ("search.space.inner_lr.log=1", ["search.space.inner_lr.log = 1: must be true or false"]),
    ("search.space.inner_lr.step=0.01", ["`step is left out when log = true` must hold"]),
    ("search.space.inner_lr.lwo=0.01", ["Did you mean search.space.inner_lr.low or"]),
    ("search.space.inner_lr.choices=[0.1]", ["cannot stand together", "Give the whole entry: search.space.inner_lr={"]),
    ("search.space.inner_lr={}", ["search.space.inner_lr.low: is missing", "search.space.inner_lr.high: is missing"]),
    ("search.space.inner_lr=0.1", ["search.space.inner_lr = 0.1", "Write {choices = [0.1]}."]),
    ("search.space.inner_lr={choices=[]}", ["search.space.inner_lr.choices = []", "a list of 1 to 100"]),
    ("search.space.inner_lr={choices=[0.1,nan]}", ["search.space.inner_lr.choices[1] = nan", "above 0"]),
    ("search.space.inner_lr={choices=[0.1,0.1]}", ["`no value stands twice in choices` must hold"]),
    ("search.space.width={low=1.5,high=20}", ["search.space.width.low = 1.5", "a whole number from 1 to 4096"]),
    ("search.space.width={low=20,high=5000}", ["search.space.width.high = 5000", "from 1 to 4096"]),
    ("search.space.width={low=20,high=50,step=40}", ["`step <= high - low` must hold"]),
    ("search.space.width={low=1,high=50}", ["`largest num_types <= smallest width` must hold"]),
    ("search.space.width.choices=[true]", ["search.space.width.choices[0] = true"]),
    ("search.space.num_types={low=1,high=4}", ["search.space.num_types.high = 4", "from 1 to 3"]),
    ("search.space.base={low=1,high=2}", ["search.space.base.choices: is missing", "search.space.base.low = 1"]),
    ("search.space.base={choices=['sine']}", ["search.space.base.choices[0] = 'sine'", "Did you mean 'sin'?"]),
    ("search.space.outer_rl={low=0.1,high=1}", ["Did you mean search.space.outer_lr.low?"]),
    ("search.space.momentum={low=0.1,high=1}", ["search.space.momentum.low = 0.1", "Known here: inner_lr, outer_lr"]),
    # what must hold between fields
    ("ldnn={num_types=3,width=2}", ["`num_types <= width` must hold, but got (num_types = 3, width = 2)"]),
    (
        "gradient.carried=true",
        ["`carried is left out unless estimator = 'truncated'` must hold, but got (carried = true, estimator ="],
    ),
    (
        "gradient={estimator='es',pairs=2048,classifiers=17}",
        ["`(2 pairs + 1) classifiers <= 65536 for es` must hold, but got (pairs = 2048, classifiers = 17)"],
    ),
    ("evolution.elites=16", ["`elites < population` must hold, but got (elites = 16, population = 16)"]),
    ("evolution.tournament=17", ["`tournament <= population` must hold"]),
    ("evolution={algorithm='sep_cma_es',population=3}", ["`population >= 4 for sep_cma_es` must hold"]),
    ("evolution={algorithm='cma_es',population=3}", ["`population >= 4 for cma_es` must hold, but got (popu"]),
    ("evolution={algorithm='openai_es',population=15}", ["`population is even for openai_es` must hold"]),
    ("evolution={algorithm='cma_es',population=2000}", ["<= 2^27 for cma_es, with 302 weights in a set", "sep_cma_es"]),
    ("evolution.layer_scales=[1.0]", ["is empty or has one number per layer of the sub-network (2)"]),
    ("evolution.layer_scales=[1.0, 0.0]", ["evolution.layer_scales[1] = 0.0", "above 0"]),
    ("evolution.mutation=curve", ["evolution.mutation = 'curve'", "one of weights, function"]),
    ("evolution.mean_lr=0", ["evolution.mean_lr = 0", "above 0"]),
    ("evolution.weight_decay=2", ["evolution.weight_decay = 2", "from 0 to 1"]),
    ("inner.batch_size=3201", ["`inner.batch_size <= rows to train on (3200)` must hold", "task.samples = 5000"]),
    ("evaluation.batch_size=4000", ["evaluation.batch_size = 4000", "rows to train on (3200)"]),
    ("evaluation.widths=[20, 1]", ["`largest num_types <= smallest of evaluation.widths` must hold"]),
    ("search={scheduler='halving',wave=1}", ["`reduction to the power of rungs (9) <= wave for halving`", "wave = 1"]),
    ("search={scheduler='halving',wave=9,trials=10}", ["`trials is a multiple of wave for halving` must hold"]),
    ("search={scheduler='asha',wave=4,trials=4}", ["`reduction <= trials in waves before the last (0) for asha`"]),
    ("search={scheduler='asha',wave=2,trials=4}", ["before the last (2) for asha` must hold, but got (trials = 4"]),
    ("search={scheduler='asha',trials=90,rungs=5}", ["search.rungs (243) <= evolution.generations` must hold"]),
    ("search.reduction=1", ["search.reduction = 1: must be a whole number from 2 to 100"]),
    ("search.rungs=0", ["search.rungs = 0: must be a whole number from 1 to 10"]),
    ("search.scheduler=ahsa", ["search.scheduler = 'ahsa'", "Did you mean 'asha'?"]),
    ("search={seeds='common',space={}}", ["`search.space has a key for gradient when search.seeds = 'common'"]),
    ("resources.gpus_per_trial=0.5", ["`gpus_per_trial is 0 when device = 'cpu'` must hold"]),
    ("resources={device='cuda',gpus_per_trial=1.5}", ["`gpus_per_trial is whole when above 1` must hold"]),
    ("resources.workers_per_trial=-1", ["resources.workers_per_trial = -1", "from 0 to 1000"]),
    ("resources={device='auto',gpus_per_trial=1.0,workers_per_trial=2,gpus_per_worker=1.5}", ["is whole when above 1"]),
    (
        "resources={device='auto',gpus_per_trial=1.0,workers_per_trial=2}",
        ["`gpus_per_worker is above 0 exactly when gpus_per_trial and workers_per_trial are` must hold"],
    ),
    ("resources.gpus_per_worker=1.0", ["`gpus_per_worker is above 0 exactly when", "gpus_per_worker = 1"]),
    ("evolution.shard=0", ["evolution.shard = 0", "from 1 to 4096"]),
    # no effect
    ("inner.lr=0.1", ["inner.lr = 0.1: has no effect", "search.space.inner_lr={choices=[0.1]}", "search.space={}"]),
    ("ldnn.width=30", ["ldnn.width = 30: has no effect"]),
]  # fmt: skip

# The content of a recipe file → what the refusal must say.
BAD_FILES: list[tuple[str, list[str]]] = [
    ("[ldnn\nwidth = 3", ["is not TOML", "line 1"]),
    ("[ldnn]\nwidth = \n", ["is not TOML", "line 2"]),
    ("[ldnn]\nwidth = 3\nwidth = 4\n", ["is not TOML", "line 3"]),
    ("[ldnn]\nwidth = 3\n[ldnn]\n", ["is not TOML", "line 3"]),
    ("seed = 01", ["is not TOML"]),
    ("x = " + "[" * 20_000, ["brackets within brackets"]),
    ("x = " + "[" * 20 + "]" * 20, ["more than 8 deep"]),
    (".".join("a" * 3000) + " = 1", ["more than 8 deep"]),
    ("#" * (LARGEST_RECIPE + 1), ["larger than 65536 bytes"]),
    ("[[ldnn]]\nwidth = 3", ["ldnn = [{width = 3}]", "a table with the keys"]),
    ("[ldnn]\nwidth = 'ten'\n[lddn]\nwidth = 3\ndepth = 1", ["3 problems", "ldnn.width", "lddn.width", "ldnn.depth"]),
    ('"" = 1', ["'' = 1", "there is no such key"]),
    ('"a\\nb" = 1', [r"'a\nb' = 1", "there is no such key"]),
    ('"\\u001b[31m" = 1', [r"'\x1b[31m' = 1"]),
    ('"ldnn.width" = 1', ["'ldnn.width' = 1", "there is no such key"]),
    ('"<range>" = 1', ["there is no such key"]),
    ("extends = 'nosuch'", ["'nosuch'", "there is no recipe of this name", "base, plain, wrong"]),
    ("extends = 'bsae'", ["Did you mean 'base'?"]),
    ("extends = 'wrong'", ["extends = 'wrong'", "cannot extend itself"]),
    ("extends = '../base'", ["extends = '../base'", "must be the name of another recipe"]),
    ("extends = 3", ["extends = 3", "must be the name of another recipe"]),
    ("extends = 'base'\n[search.space]\ninner_lr = { low = 1.0 }", ["search.space.inner_lr.high: is missing"]),
]  # fmt: skip


@pytest.mark.parametrize(("override", "expected"), BAD_OVERRIDES, ids=[one[:40] for one, _ in BAD_OVERRIDES])
def test_bad_override_is_refused_in_plain_words(override: str, expected: list[str], folder: Path) -> None:
    words = refusal("base", [override], folder) + "\n"
    assert [part for part in expected if part not in words] == [], words


@pytest.mark.parametrize(("content", "expected"), BAD_FILES, ids=[one[:40] for one, _ in BAD_FILES])
def test_bad_file_is_refused_in_plain_words(content: str, expected: list[str], folder: Path) -> None:
    (folder / "wrong.toml").write_text(content)
    words = refusal(str(folder / "wrong.toml"), [], folder)
    assert [part for part in expected if part not in words] == [], words


def test_all_problems_are_said_together(folder: Path) -> None:
    wrong = ["method=genetc", "x", "ldnn.widht=3", "evolution.elites=99", "inner.batch_size=9999", "inner.lr=1"]
    words = refusal("base", wrong, folder)
    assert words.startswith("6 problems in recipe 'base':\n")
    for part in ("'genetc'", "--set 'x'", "ldnn.widht", "elites < population", "rows to train on", "no effect"):
        assert part in words


def test_a_relation_is_not_blamed_for_a_value_that_is_wrong_itself(folder: Path) -> None:
    words = refusal("base", ["task.samples=many", "inner.batch_size=9999"], folder)
    assert "rows to train on" not in words
    assert "1 problem" in words


def test_a_problem_can_be_read_by_programs(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe("base", ["ldnn.depth=77"], folder=folder)
    (problem,) = caught.value.problems
    assert (problem.key, problem.value) == ("ldnn.depth", "77")
    assert problem.allowed == "must be a whole number from 1 to 64"


# Files


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bsae", ["'bsae'", "there are base, plain", "Did you mean 'base'?"]),
        ("", ["there is no recipe of this name"]),
        ("base.yaml", ["path of a .toml file", "Did you mean 'base'?"]),
        ("../base", ["there is no recipe of this name"]),
        ("nosuch.toml", ["'nosuch.toml': there is no such file"]),
        ("nul\0.toml", [r"'nul\x00.toml'"]),
        ("x" * 5000 + ".toml", ["cannot be read"]),
    ],
)
def test_recipe_that_is_not_there(name: str, expected: list[str], folder: Path) -> None:
    words = refusal(name, [], folder)
    assert [part for part in expected if part not in words] == [], words


def test_folder_pipe_and_bytes_are_no_recipes(folder: Path) -> None:
    (folder / "folder.toml").mkdir()
    assert "not a regular file" in refusal(str(folder / "folder.toml"), [], folder)
    if sys.platform != "win32":
        os.mkfifo(folder / "pipe.toml")
        assert "not a regular file" in refusal(str(folder / "pipe.toml"), [], folder)
    (folder / "bytes.toml").write_bytes(b"seed = 1 # \xff")
    assert "not UTF-8 text (byte 11 is wrong)" in refusal(str(folder / "bytes.toml"), [], folder)


def test_recipe_by_path_is_named_after_its_file(folder: Path) -> None:
    (folder / "mine.toml").write_text("seed = 7")
    run = load_recipe(str(folder / "mine.toml"), folder=RECIPES)
    assert (run.name, run.seed) == ("mine", 7)


def test_recipe_is_laid_over_the_one_it_extends(folder: Path) -> None:
    (folder / "mine.toml").write_text(
        "extends = 'base'\nseed = 7\n[search]\ntrials = 9\n[search.space]\nwidth = { low = 5, high = 9 }\n"
    )
    run = load_recipe("mine", folder=folder)
    assert (run.name, run.seed, run.search.trials) == ("mine", 7, 9)
    assert run.description == "what the tables below are laid over"
    assert canonical(run)["search"]["space"] == {
        "inner_lr": {"low": 1e-3, "high": 0.1, "log": True, "step": None},
        "width": {"low": 5, "high": 9, "log": False, "step": None},
    }


def test_only_one_level_is_extended(folder: Path) -> None:
    (folder / "one.toml").write_text("extends = 'two'")
    (folder / "two.toml").write_text("extends = 'one'")
    assert "must be a recipe that extends none, but it extends 'one'" in refusal("one", [], folder)


# Overrides


@pytest.mark.parametrize(
    ("overrides", "key", "value"),
    [
        (["ldnn.depth=2"], "ldnn.depth", 2),
        ([" ldnn.depth = 2 "], "ldnn.depth", 2),
        (["ldnn.depth=2", "ldnn.depth=3"], "ldnn.depth", 3),
        (["ldnn.base=relu"], "ldnn.base", "relu"),
        (["ldnn.base='relu'"], "ldnn.base", "relu"),
        (["inner.noise=1e-1"], "inner.noise", 0.1),
        (["inner.noise=1"], "inner.noise", 1.0),
        (["evaluation.widths=[10, 20]"], "evaluation.widths", (10, 20)),
        (["description=a = b, # c"], "description", "a = b, # c"),
        (["description=1\nseed = 3"], "description", "1\nseed = 3"),
        (["ldnn={depth=3}"], "ldnn.depth", 3),
        (["search.space={}"], "search.space", {}),
        (["search.space={}", "inner.lr=0.5"], "inner.lr", 0.5),
        (["name=other"], "name", "other"),
    ],
)
def test_override_is_read(overrides: list[str], key: str, value: object, folder: Path) -> None:
    found: object = load_recipe("base", overrides, folder=folder)
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value


keys = st.sampled_from(sorted(keys_of(RunConfig).known)) | st.from_regex(
    r"[a-z_]{1,8}(\.[a-z_]{1,8}){0,4}", fullmatch=True
)
values = st.one_of(
    st.text(max_size=30),
    st.integers().map(str),
    st.floats().map(str),
    st.lists(st.integers(-5, 5000), max_size=4).map(str),
    st.sampled_from(
        ["{}", "{low = 1, high = 2}", "{choices = ['sin', 1]}", "true", "[[[]]]", "07:32:00", '"""', "'a'"]
    ),
)
overrides = st.text(max_size=60) | st.builds("{}={}".format, keys, values)


def run_or_refusal(recipe: str, given_overrides: list[str], folder: Path) -> RunConfig | ConfigError:
    try:
        return load_recipe(recipe, given_overrides, folder=folder)
    except ConfigError as error:
        return error


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_overrides=st.lists(overrides, max_size=4))
@example(given_overrides=["inner=3", "inner.lr=3"])
@example(given_overrides=["inner.lr=3", "inner=3"])
@example(given_overrides=["search=3", "inner.lr=3"])
@example(given_overrides=["description=\ud800"])
@example(given_overrides=["ldnn.width=" + "[" * 3900])
def test_any_override_gives_a_run_or_a_refusal(given_overrides: list[str], folder: Path) -> None:
    result = run_or_refusal("base", given_overrides, folder)
    if isinstance(result, RunConfig):
        assert RunConfig.model_validate(canonical(result)).search == result.search
    else:
        assert len(str(result).splitlines()) == 1 + len(result.problems) >= 2


texts = st.binary(max_size=80) | st.lists(st.builds("{} = {}\n".format, keys, values)).map(
    lambda lines: "".join(lines).encode(errors="replace")
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=texts)
def test_any_file_gives_a_run_or_a_refusal(content: bytes, folder: Path) -> None:
    path = folder / "any.toml"
    path.write_bytes(content)
    result = run_or_refusal(str(path), [], folder)
    assert isinstance(result, RunConfig) or len(str(result).splitlines()) == 1 + len(result.problems) >= 2


# What is shipped


def test_shipped_recipes_are_listed_with_a_description() -> None:
    listed = list_recipes(RECIPES)
    assert [name for name, _ in listed] == SHIPPED
    assert all(description for _, description in listed)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipe_loads_and_starts_with_a_comment(name: str) -> None:
    run = load_recipe(name, folder=RECIPES)
    assert run.name == name
    assert (RECIPES / f"{name}.toml").read_text().startswith("# ")


def test_compared_methods_get_the_same_number_of_inner_steps() -> None:
    run = load_recipe("mnist1d-compare", folder=RECIPES)
    of_gradient = run.gradient.outer_steps * run.gradient.classifiers
    of_evolution = run.evolution.generations * run.evolution.population * run.evolution.classifiers
    assert methods(run) == ("gradient", "evolution")
    assert of_gradient == of_evolution


@pytest.mark.parametrize("method", ["gradient", "evolution"])
def test_recipe_of_one_method_is_that_half_of_the_comparison(method: str) -> None:
    both = canonical(load_recipe("mnist1d-compare", folder=RECIPES))
    one = canonical(load_recipe(f"mnist1d-{method}", folder=RECIPES))
    assert {key for key in both if both[key] != one[key]} == {"name", "description", "method"}


def test_quickstart_is_what_the_first_report_needs() -> None:
    run = load_recipe("quickstart", folder=RECIPES)
    assert methods(run) == ("gradient", "evolution")
    assert len(run.evaluation.widths) >= 3
    assert run.evaluation.seeds >= 10
    assert run.evaluation.best >= 1
    assert set(run.evaluation.usual) >= {"relu", "silu", "tanh", "sin"}
