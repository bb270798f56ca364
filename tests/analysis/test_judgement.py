import numpy as np
import pytest

from analysis import Outcome, headline_sets, load_run, verdict


def judged(folder):
    return verdict(load_run(folder.path))


def noisy(mean, seeds=20, key=0):
    return mean + np.random.default_rng(key).normal(0, 0.004, seeds)


def said(folder, *words):
    sentences = [sentence for sentence in judged(folder).sentences if all(word in sentence for word in words)]
    assert len(sentences) == 1, judged(folder).sentences
    return sentences[0]


@pytest.fixture
def small(make_run):
    folder = make_run()
    folder.evaluations("usual", {"relu": noisy(0.50), "sin": noisy(0.56, key=1)})
    return folder


def test_a_win_where_it_was_learned_is_said_with_its_interval(small):
    small.evaluations("gradient-0001", {"mixed": noisy(0.53, key=2), "pure-0": noisy(0.5, key=3)})
    words = said(small, "beats ReLU")
    assert words.startswith("mixed (gradient-0001) beats ReLU at width 50, where it was learned, by 3.")
    assert "20 seeds (100 % won)" in words


def test_a_loss_is_said_as_a_loss_with_a_positive_amount(small):
    small.evaluations("gradient-0001", {"mixed": noisy(0.53, key=2)})
    assert "loses to the best usual activation (sin) at width 50, where it was learned, by 3." in said(
        small, "best usual"
    )


def test_no_clear_difference_is_not_called_a_win(small):
    small.evaluations("gradient-0001", {"mixed": noisy(0.5, key=2)})
    assert "neither clearly better nor clearly worse than ReLU" in said(small, "ReLU")


def test_the_same_arm_under_two_names_is_not_a_difference(small):
    small.evaluations("gradient-0001", {"mixed": noisy(0.50)})
    words = said(small, "ReLU")
    assert "neither clearly better nor clearly worse" in words
    assert "0.0 points [0.0, 0.0]" in words


def test_five_seeds_do_not_make_a_claim(make_run):
    folder = make_run()
    folder.evaluations("usual", {"relu": noisy(0.5, 5)})
    folder.evaluations("gradient-0001", {"mixed": noisy(0.6, 5, 1)})
    assert "cannot be judged against ReLU" in said(folder, "ReLU")
    assert "5 seeds, at least 6 are needed" in said(folder, "ReLU")


def test_one_seed_is_said_without_an_interval(make_run):
    folder = make_run()
    folder.evaluations("usual", {"relu": [0.5]})
    folder.evaluations("gradient-0001", {"mixed": [0.6]})
    words = said(folder, "ReLU")
    assert "1 seed, at least 6 are needed (difference 10.0 points)" in words


def test_a_missing_rival_is_said(small):
    small.evaluations("gradient-0001", {"mixed": noisy(0.53, key=2)})
    assert "could not be compared with its best pure type at width 50" in said(small, "pure type")


def test_a_size_without_the_mix_is_not_measured(small):
    small.evaluations("gradient-0001", {"pure-0": noisy(0.53, key=2)})
    assert set(judged(small).table["outcome"]) == {Outcome.NOT_MEASURED}


def test_other_sizes_are_grouped_by_what_happened_there(full_run):
    words = said(full_run, "gradient-0002", "best usual activation at other sizes")
    wins, unclear, loses = words.split(": ", 1)[1].split("; ")
    assert wins.startswith("wins at width 20 (sin, +5.9")
    assert unclear.startswith("no clear difference at width 100")
    assert loses.startswith("loses at width 200 (sin, -2.5")


def test_a_set_not_evaluated_where_it_was_learned_is_said_with_the_way_out(make_run):
    folder = make_run()
    folder.evaluations("usual", {"relu": noisy(0.5)}, 100)
    folder.evaluations("gradient-0001", {"mixed": noisy(0.6, key=1)}, 100)
    assert "`ldnn evaluate` with --widths 50 --depths 1 does that" in said(folder, "was not evaluated at width 50")


def test_no_evaluations_are_said_with_the_way_out(make_run):
    assert "`ldnn evaluate`" in said(make_run(), "No learned set has been evaluated yet")


def test_validation_rows_are_called_so(make_run):
    folder = make_run()
    folder.evaluations("usual", {"relu": noisy(0.5)}, split="val")
    folder.evaluations("gradient-0001", {"mixed": noisy(0.6, key=1)}, split="val")
    assert judged(folder).split == "val"
    assert said(folder, "the test is still to come")


def test_protocols_are_told_apart_when_there_are_two(small):
    for protocol in ("shared", "per_arm_size"):
        small.evaluations("gradient-0001", {"mixed": noisy(0.6, key=1)}, lr_protocol=protocol)
    assert "mixed (gradient-0001, lr shared) beats ReLU" in said(small, "shared", "ReLU")
    assert "mixed (gradient-0001, lr per_arm_size)" in said(small, "per_arm_size", "ReLU")


def test_the_headline_set_is_chosen_by_validation_score_not_by_the_test(small):
    small.trial("gradient-0000", score=0.7)
    small.trial("gradient-0001", score=0.6)
    small.evaluations("gradient-0000", {"mixed": noisy(0.52, key=1)})
    small.evaluations("gradient-0001", {"mixed": noisy(0.62, key=2)})
    assert list(headline_sets(load_run(small.path))["trial_id"]) == ["gradient-0000"]
    result = judged(small)
    assert not any("gradient-0001" in sentence for sentence in result.sentences)
    assert set(result.table.loc[~result.table["headline"], "trial_id"]) == {"gradient-0001"}


def test_lost_seeds_are_said(small):
    small.evaluations("gradient-0001", {"mixed": noisy(0.6, 12, 1)})
    assert "12 seeds (100 % won, 8 without a partner)" in said(small, "ReLU")


@pytest.mark.parametrize(("share", "is_said"), [(0.032, True), (0.009, False), (None, False)])
def test_use_outside_the_table_is_said_when_it_is_frequent(small, share, is_said):
    small.evaluations("gradient-0001", {"mixed": noisy(0.53, key=2)}, outside_table=share)
    sentences = [s for s in judged(small).sentences if "outside the table" in s]
    expected = "mixed (gradient-0001) at width 50: 3.2 % of the pre-activations lay outside the table, where the curve"
    assert [s.startswith(expected) for s in sentences] == [True] * is_said


@pytest.mark.parametrize(("errors", "is_said"), [((2e-5, 3.4e-4), True), ((1e-5, 9e-5), False), ((None, None), False)])
def test_a_coarse_table_of_the_found_set_is_said(small, errors, is_said):
    small.trial("gradient-0001")
    small.evaluations("gradient-0001", {"mixed": noisy(0.53, key=2)})
    row = {"trial_id": "gradient-0001", "method": "gradient", "num_types": 2, "base": "sin", "table_scale": 8}
    earlier = [row | {"step": 0, "final": False, "type_index": k, "table_error": None} for k in range(2)]
    final = [row | {"step": 9, "final": True, "type_index": k, "table_error": e} for k, e in enumerate(errors)]
    small.write("activations", earlier + final)
    found = judged(small)
    expected = (
        "The table of gradient-0001 is coarse: its values may be off by 3.4e-04, more than 1e-04; "
        "a search with a larger ldnn.table_scale than 8 looks up finer."
    )
    for sentences in (found.sentences, found.headlines):
        assert [s for s in sentences if "coarse" in s] == [expected] * is_said


def test_networks_that_chose_learning_rates_are_no_networks_outside_the_table(small):
    small.evaluations("gradient-0001", {"mixed": noisy(0.53, key=2)}, outside_table=0.001)
    small.evaluations("gradient-0001", {"mixed": noisy(0.3, key=2)}, outside_table=0.4, split="val", lr=0.3)
    assert not [sentence for sentence in judged(small).sentences if "outside the table" in sentence]


def test_use_outside_the_table_is_said_for_each_task_and_kind_of_network(small):
    small.evaluations("gradient-0001", {"mixed": noisy(0.53, key=2)}, outside_table=0.005)
    small.evaluations("gradient-0001", {"mixed": noisy(0.53, key=2)}, outside_table=0.03, task="digits")
    words = said(small, "outside the table")
    assert words.startswith("mixed (gradient-0001, digits) at width 50: 3.0 % of")
