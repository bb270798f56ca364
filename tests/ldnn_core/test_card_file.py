"""Cards as files: what is written is read again, and nothing else is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from ldnn_core import CardError, LearnedActivation, read_card, write_card
from ldnn_core import card_file as limits
from ldnn_core.card import make_card
from ldnn_core.subnetwork import ActivationSpec
from tests.corpora import cases
from tests.ldnn_core.cards import SPECS, exact, small_card
from tests.ldnn_core.spoiled_cards import spoiled

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", SPECS)
def test_a_card_survives_its_file(name, tmp_path):
    card = small_card(name, passport={"label": "holds", "rows": [{"width": 20, "advantage": 0.01}]})
    write_card(card, tmp_path / "set.safetensors")
    again = read_card(str(tmp_path / "set.safetensors"))
    for field in ("genomes", "coefficients", "gain", "offset"):
        assert torch.equal(getattr(again, field), getattr(card, field))
    for field in ("spec", "errors", "lipschitz", "observed_inputs", "learned", "passport"):
        assert getattr(again, field) == getattr(card, field)


def test_the_file_is_safetensors_that_others_can_read(tmp_path):
    card = small_card()
    write_card(card, tmp_path / "set.safetensors")
    with safe_open(tmp_path / "set.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("genomes"), card.genomes)
        told = json.loads(file.metadata()["card"])
    assert told["base"] == "sin"
    assert told["learned"] == {"run_id": "made-up", "widths": [20, 50], "score": None}
    assert told["passport"] is None


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "set.safetensors"
    write_card(small_card(), path)
    write_card(small_card("kinked"), path)
    assert read_card(path).spec.base == "hat"
    assert [one.name for one in tmp_path.iterdir()] == ["set.safetensors"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_process_with_little_more_than_torch_gives_the_same_outputs(tmp_path):
    card = small_card("normalised")
    write_card(card, tmp_path / "set.safetensors")
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        gone = "ray optuna pandas pyarrow pydantic scipy matplotlib sklearn search jobs analysis typer rich"
        if name.partition(".")[0] in gone.split():
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import json
import torch
import ldnn_core
module = ldnn_core.load_activation({str(tmp_path / "set.safetensors")!r})
x = torch.linspace(-12, 12, 700).view(4, 7, 25)
print(json.dumps(module(x).flatten().tolist()))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    x = torch.linspace(-12, 12, 700).view(4, 7, 25)
    # Outside the table the functions go on straight, the sub-networks do not.
    inside = x.abs() <= card.spec.table_range
    found = torch.tensor(json.loads(done.stdout)).view(4, 7, 25).double()
    torch.testing.assert_close(found[inside], exact(card, x)[inside], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("case", cases("hostile_cards"), ids=lambda case: case["name"])
def test_a_file_that_is_no_sound_card_is_refused_with_rule_and_way_out(case, tmp_path):
    path = tmp_path / "set.safetensors"
    path.write_bytes(spoiled(case["card"]))
    with pytest.raises(CardError, match=case["says"]) as caught:
        read_card(path)
    assert "; " in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "set.safetensors"
    with path.open("wb") as file:
        file.truncate(limits.LARGEST_FILE + 1)  # takes no place on the disk
    with pytest.raises(CardError, match=f"9 to {limits.LARGEST_FILE} bytes, but got {limits.LARGEST_FILE + 1}"):
        read_card(path)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(CardError, match="a card must be a file"):
        read_card(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CardError, match="a card must be a file"):
        read_card(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        read_card(tmp_path / "absent")


def test_what_would_not_be_read_is_not_written(tmp_path):
    spec = ActivationSpec("sin", 1, (2,))
    with pytest.raises(CardError, match="JSON without NaN"):
        write_card(make_card(spec, torch.ones(1, 7), learned={"score": float("nan")}), tmp_path / "a")
    with pytest.raises(CardError, match="the largest of coefficients must be finite, at most 1e"):
        write_card(make_card(spec, torch.full((1, 7), 2e9)), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_card(small_card(), tmp_path / "absent" / "set.safetensors")


def test_a_card_of_version_1_stays_readable():
    card = read_card(ROOT / "tests" / "golden" / "card_v1.safetensors")
    assert card.learned == {"run_id": "golden", "widths": [20, 50]}
    assert card.observed_inputs.networks == 8
    assert card.passport == {"label": None, "rows": [{"width": 20}]}
    x = torch.arange(-16, 17, dtype=torch.float64) / 8  # knots, where the table is exact
    module = LearnedActivation(card, axis=0, dtype=torch.float64)
    for k, (w1, w2, b1, b2, v1, v2, c) in enumerate(card.genomes.tolist()):
        expected = torch.sin(x) + 0.2 * (v1 * torch.tanh(w1 * x + b1) + v2 * torch.tanh(w2 * x + b2) + c)
        torch.testing.assert_close(module(torch.stack([x, x]))[k], expected, atol=1e-14, rtol=0)
