import numpy as np
import pytest

from analysis import compare, load_run
from analysis.comparison import best_so_far, budget_curves, equal_budget
from analysis.tables import comparison_tables, trials_table


@pytest.fixture
def raced(make_run):
    """Two gradient trials of 400 inner steps and two evolution trials of 1000; evolution is slower per step."""
    folder = make_run()
    for number, gain in enumerate([0.0, 0.02]):
        folder.trial(f"gradient-{number:04d}", score=0.6 + gain)
        folder.steps(
            f"gradient-{number:04d}", [0.3 + gain, 0.5 + gain, 0.4, None], inner_steps_total=[100, 200, 300, 400]
        )
        folder.trial(f"evolution-{number:04d}", score=0.6 + gain)
        folder.steps(
            f"evolution-{number:04d}",
            [0.2 + gain, 0.6 + gain],
            inner_steps_total=[300, 1000],
            wall_seconds=[2.0, 20.0],
        )
    return folder


def steps_of(folder):
    return load_run(folder.path).steps


def test_best_so_far_never_falls_and_skips_steps_without_a_record(raced):
    best = best_so_far(steps_of(raced), "inner_steps_total", "val_accuracy")
    assert best.loc[best["trial_id"] == "gradient-0000", "best"].tolist() == [0.3, 0.5, 0.5]
    assert best.loc[best["trial_id"] == "gradient-0000", "budget"].tolist() == [100.0, 200.0, 300.0]


def test_best_so_far_of_a_loss_is_the_lowest(make_run):
    folder = make_run()
    folder.steps("gradient-0000", [None] * 3, outer_loss=[2.0, 1.0, 1.5])
    assert best_so_far(steps_of(folder), "inner_steps_total", "outer_loss")["best"].tolist() == [2.0, 1.0, 1.0]


def test_methods_meet_at_the_smaller_budget(raced):
    (row,) = equal_budget(steps_of(raced), "inner_steps_total").to_dict("records")
    assert row["budget"] == 300
    assert (row["gradient"], row["evolution"]) == (pytest.approx(0.51), pytest.approx(0.21))
    assert row["difference"] == pytest.approx(0.3)


def test_equal_time_is_another_question_than_equal_steps(raced):
    (row,) = equal_budget(steps_of(raced), "wall_seconds").to_dict("records")
    assert (row["budget"], row["evolution"]) == (6.0, pytest.approx(0.21))


def test_a_trial_that_ended_early_keeps_its_best_and_is_counted(raced):
    raced.trial("gradient-0002", status="diverged", score=None)
    raced.steps("gradient-0002", [0.45], inner_steps_total=[100])
    (row,) = equal_budget(steps_of(raced), "inner_steps_total").to_dict("records")
    assert (row["gradient_trials"], row["gradient_carried"]) == (3, 1)
    assert row["gradient"] == pytest.approx((0.5 + 0.52 + 0.45) / 3)


def test_curves_start_where_every_trial_has_a_record(raced):
    curves = budget_curves(steps_of(raced), "inner_steps_total", "val_accuracy", points_on_grid=4)
    gradient = curves[curves["method"] == "gradient"]
    assert gradient["budget"].tolist() == [0.0, 100.0, 200.0, 300.0]
    assert np.isnan(gradient["value"].iloc[0])
    assert gradient["value"].tolist()[1:] == pytest.approx([0.31, 0.51, 0.51])
    assert set(gradient["trials"]) == {2}


def test_one_trial_has_no_interval_and_that_is_said(make_run):
    folder = make_run()
    for method in ("gradient", "evolution"):
        folder.steps(f"{method}-0000", [0.3, 0.5])
    result = compare(load_run(folder.path))
    assert set(result.equal_budget["interval"]) == {"none"}
    assert set(result.equal_budget["measure"]) == {"accuracy"}
    assert np.isnan(result.equal_budget["difference_low"]).all()
    assert "no interval, because one of them has a single value" in result.sentences[0]


def test_two_trials_are_too_few_for_a_claim(raced):
    assert "(2 trials and 2 trials), too few for a claim" in compare(load_run(raced.path)).sentences[0]


def test_several_runs_are_pooled_although_their_trials_share_names(make_run):
    runs = []
    for place in range(3):
        folder = make_run(f"repeat-{place}", run_id=f"repeat-{place}")
        for number in range(2):
            folder.steps(f"gradient-{number:04d}", [0.30 + 0.01 * place, 0.52 + 0.01 * number])
            folder.steps(f"evolution-{number:04d}", [0.30, 0.41 + 0.01 * place])
        runs.append(load_run(folder.path))
    result = compare(*runs)
    at_steps = result.equal_budget.iloc[0]
    assert (at_steps["gradient_trials"], at_steps["evolution_trials"]) == (6, 6)
    assert at_steps["difference"] == pytest.approx(0.525 - 0.42)
    assert "gradient is better" in result.sentences[0]


def test_final_sets_are_paired_by_seed(make_run):
    folder = make_run()
    easy = np.random.default_rng(0).normal(0, 0.05, 12)
    folder.evaluations("gradient-0000", {"mixed": 0.55 + easy})
    folder.evaluations("evolution-0000", {"mixed": dict(enumerate(0.57 + easy[:10]))})
    result = compare(load_run(folder.path))
    (row,) = result.final_sets.to_dict("records")
    assert (row["difference"], row["pairs"], row["lost"]) == (pytest.approx(-0.02), 10, 2)
    assert row["gradient"] - row["evolution"] == pytest.approx(row["difference"])
    assert "evolution is better" in result.sentences[-1]
    assert "2 without a partner" in result.sentences[-1]


def test_two_seeds_of_equal_difference_are_too_few_for_a_claim(make_run):
    folder = make_run()
    folder.evaluations("gradient-0000", {"mixed": [0.55, 0.60]})
    folder.evaluations("evolution-0000", {"mixed": [0.50, 0.55]})
    sentence = compare(load_run(folder.path)).sentences[-1]
    assert "difference +5.0 [5.0, 5.0] points (2 seeds), too few for a claim" in sentence


def test_a_missing_method_is_said(make_run):
    folder = make_run()
    folder.steps("gradient-0000", [0.3, 0.5])
    result = compare(load_run(folder.path))
    assert result.equal_budget.empty
    assert result.sentences == (
        "There are no recorded steps of evolution: there is nothing to compare at equal budget.",
    )


def test_an_empty_run_gives_empty_tables_and_words(make_run):
    result = compare(load_run(make_run().path))
    assert result.equal_budget.empty
    assert result.final_sets.empty
    assert "no recorded steps of gradient and evolution" in result.sentences[0]


def test_no_run_and_a_run_given_twice_are_refused(make_run):
    run = load_run(make_run().path)
    with pytest.raises(ValueError, match="needs at least one run"):
        compare()
    with pytest.raises(ValueError, match="give each run once"):
        compare(run, run)


def test_a_method_that_recorded_nothing_within_the_budget_is_said(make_run):
    folder = make_run()
    folder.steps("gradient-0000", [0.3, 0.5], inner_steps_total=[10, 20])
    folder.steps("evolution-0000", [0.3, 0.5], inner_steps_total=[60, 120])
    first = compare(load_run(folder.path)).sentences[0]
    assert first == "At 20 inner steps per trial, evolution had not recorded any validation accuracy yet."


def test_final_sets_are_those_of_the_task_on_which_they_were_learned(make_run):
    """A skill is no accuracy: the best of one task must not be chosen by scores of another."""
    runs = []
    for task, gradient, evolution in (("mnist1d", 0.6, 0.55), ("van_der_pol", 0.5, 0.9)):
        folder = make_run(task, run_id=task, config={"task": {"name": task}})
        for trial, score in (("gradient-0000", gradient), ("evolution-0000", evolution)):
            folder.trial(trial, score=score, task=task)
            folder.evaluations(trial, {"mixed": [score] * 6}, task="digits")
            folder.activations(trial, [0, 1])
        runs.append(load_run(folder.path))
    result = compare(*runs)
    found = result.final_sets.set_index("learned_on")
    assert found["gradient"].to_dict() == pytest.approx({"mnist1d": 0.6, "van_der_pol": 0.5})
    assert found["evolution"].to_dict() == pytest.approx({"mnist1d": 0.55, "van_der_pol": 0.9})
    finals = [sentence for sentence in result.sentences if sentence.startswith("Final sets")]
    assert ["learned on mnist1d" in finals[0], "learned on van_der_pol" in finals[1]] == [True, True]
    assert sum("The functions of" in sentence for sentence in result.sentences) == 2


def test_methods_are_not_compared_by_outer_losses_which_are_of_the_best_candidate_and_of_the_mean(raced):
    run = load_run(raced.path)
    found = compare(run)
    assert list(found.equal_budget["budget_kind"]) == ["inner_steps_total", "wall_seconds"]
    (table,) = comparison_tables(found)
    assert [row[0] for row in table.rows] == ["validation accuracy [%]"] * 2


def test_a_best_so_far_is_said_to_be_more_than_what_a_trial_delivers(raced):
    found = compare(load_run(raced.path))
    assert sum("highest of noisy probes" in sentence for sentence in found.sentences) == 1
    assert "highest of noisy probes" in next(comparison_tables(found)).caption


def test_the_skill_of_a_regression_is_not_called_an_accuracy(make_run):
    folder = make_run(config={"task": {"name": "van_der_pol", "label": "orbits"}})
    for trial in ("gradient-0000", "evolution-0000"):
        folder.trial(trial, task="orbits")
        folder.steps(trial, [0.3, 0.5], task="orbits")
    run = load_run(folder.path)
    found = compare(run)
    assert "mean best validation skill: gradient 50.0 %" in found.sentences[0]
    assert next(comparison_tables(found)).rows[0][0] == "validation skill [%]"
    assert "mean skill of fresh networks" in trials_table(run).caption
    assert not any("accuracy" in text for text in (*found.sentences, trials_table(run).caption))


def test_how_far_apart_functions_are_is_said_where_networks_are_too(make_run):
    folder = make_run()
    for place, trial in enumerate(("gradient-0000", "evolution-0000")):
        folder.trial(trial)
        folder.activations(trial, [0] if place else [0, 1])
    near_zero = [1.0 if 30 <= place < 34 else 0.0 for place in range(64)]
    for measured in (None, near_zero):
        for trial in ("gradient-0000", "evolution-0000"):
            folder.evaluations(trial, {"mixed": [0.5]}, 20 if measured else 50, preactivation_density=measured)
        sentence = compare(load_run(folder.path)).sentences[-1]
        assert sentence.startswith("The functions of gradient-0000 and evolution-0000 differ by 0.")
        assert ("where the pre-activations of their networks lie" in sentence) == bool(measured)
