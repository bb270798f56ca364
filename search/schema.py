"""The tables of a run folder: one explicit, versioned Arrow schema for each.

Every part of a table is written and read with the schema below, so that no reader can lose a column and no
column changes its type between parts.  The description of a column travels in its field metadata.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import pyarrow as pa

SCHEMA_VERSION: Final = 3
"""Raised by one whenever a column is added, removed or changes its meaning.

Parts of an earlier version are read as they are: a column that they do not have is null.
1: the first.  2: ``trials`` has ``widths``, ``depths``, ``cross_size_drop``, ``num_params`` and ``flatness``, and
``activations`` has ``normalized``, ``table_range``, ``table_scale`` and ``table_error``; ``lr`` is part of the key of
``evaluations``.  3: ``evaluations`` says by which column networks are judged and keeps curves over epochs, the density
of pre-activations, more about curvature and about gradient noise; ``spectra`` says which network a density is of; the
tables ``spectral_bias`` and ``initial_variance``.  A table that is added changes no part of the others: a run that was
made before has no rows of it.
"""


class Status(StrEnum):
    """How a trial attempt ended."""

    OK = "ok"
    """It ran to its end and its numbers are finite."""
    DIVERGED = "diverged"
    """A loss, gradient or weight became infinite or NaN; it was stopped at that step."""
    FAILED = "failed"
    """An exception ended it; the column ``error`` holds its words."""
    KILLED = "killed"
    """Its process died before it could say anything."""
    TIMEOUT = "timeout"
    """It ran longer than it was allowed to."""
    OOM = "oom"
    """It asked for more memory than there was."""
    PRUNED = "pruned"
    """A scheduler stopped it early because others did better."""


FINISHED: Final = frozenset({Status.OK, Status.DIVERGED, Status.PRUNED})
"""How a trial ends that is not run again: its rows are all there, and would be the same another time."""

OBJECTIVES: Final[dict[str, str]] = {
    "score": "max",
    "cross_size_drop": "min",
    "num_params": "min",
    "flatness": "min",
}
"""What a search can optimise: column of ``trials`` → whether it is to be large (max) or small (min)."""

USUAL_TRIAL: Final = "usual"
"""The ``trial_id`` of evaluation rows whose arm does not come from a trial (relu, silu, tanh, ...)."""

CONTROLS: Final[dict[str, str]] = {
    "untrained": "random sub-networks instead of the learned ones, new for every seed",
    "copies": "K copies of type 0 in the places of the K types: the same network as pure-0",
    "shuffled": "the learned types, assigned to the neurons of a layer by chance, anew for every seed",
    "relu-equal": "relu in a network widened until it has as many parameters as network and set together",
    "no-gain": "a normalised set without its gain and offset",
    "mixed-normalized": "a set that has no gain and offset, with automatic ones",
}
"""Arms that a claimed win of the mix has to be held against: name → what it is."""

_TEXT: Final = pa.string()
_INT: Final = pa.int64()
_REAL: Final = pa.float64()
_FLAG: Final = pa.bool_()
_TIME: Final = pa.timestamp("us", tz="UTC")
_REALS: Final = pa.list_(pa.float64())
_INTS: Final = pa.list_(pa.int64())


def _field(name: str, kind: pa.DataType, description: str) -> pa.Field:
    return pa.field(name, kind, nullable=True, metadata={"description": description})


_COMMON: Final = [
    _field("run_id", _TEXT, "name and hash of the run"),
    _field("trial_id", _TEXT, "method and number, e.g. gradient-0003; 'usual' for arms that no trial found"),
    _field("attempt", _INT, "0 for the first attempt at this trial or evaluation"),
    _field("schema_version", _INT, "version of this schema"),
    _field("created_at", _TIME, "when the row was made, UTC"),
]

_ORIGIN: Final = [
    _field("method", _TEXT, "gradient | evolution; null for usual arms"),
    _field("estimator", _TEXT, "how the outer gradient was obtained; null for evolution"),
    _field("algorithm", _TEXT, "evolution algorithm; null for gradient"),
    _field("task", _TEXT, "data, loss and metric, e.g. mnist1d"),
    _field("seed", _INT, "seed of the trial, or of the evaluated network"),
]

_PROVENANCE: Final = [
    _field(
        "config_hash",
        _TEXT,
        "16 hex digits of the SHA-256 of the configuration of the trial, in evaluations of the run",
    ),
    _field("code_version", _TEXT, "package version and git commit"),
    _field("code_dirty", _FLAG, "whether the checkout had uncommitted changes"),
    _field("versions", _TEXT, "JSON: versions of python, torch, numpy, ray, optuna, ..."),
    _field("hostname", _TEXT, "machine that did the work"),
    _field("device", _TEXT, "cpu, or the name of the accelerator"),
    _field("threads", _INT, "threads that torch was allowed"),
]

TRIALS: Final = pa.schema(
    [
        *_COMMON,
        *_ORIGIN,
        _field("number", _INT, "position of the trial in its method's sequence, from 0"),
        _field("status", _TEXT, "ok | diverged | failed | killed | timeout | oom | pruned"),
        _field(
            "score",
            _REAL,
            "mean validation accuracy (0..1) of fresh networks with the found set, or for regression their mean skill, "
            "1 - root mean squared error of standardised targets, at least 0; null unless ok",
        ),
        _field("score_sem", _REAL, "standard error of that mean"),
        _field("cross_size_drop", _REAL, "score minus the lowest at search.objective_widths and here; else null"),
        _field("num_params", _INT, "trained weights and biases of the (largest) network in which the set was learned"),
        _field("flatness", _REAL, "Hessian trace of the training loss per parameter, mean of networks; else null"),
        _field("error_type", _TEXT, "class of the exception, if any"),
        _field("error", _TEXT, "its words, if any"),
        _field("num_types", _INT, "K, neuron types in a layer"),
        _field("base", _TEXT, "base function"),
        _field("width", _INT, "neurons per hidden layer; null when sets were tried at several widths"),
        _field("depth", _INT, "hidden layers; null when sets were tried at several depths"),
        _field("widths", _INTS, "neurons per hidden layer of all networks that sets were tried in"),
        _field("depths", _INTS, "hidden layers of all networks that sets were tried in"),
        _field("subnet_hidden", _INTS, "hidden sizes of the sub-network"),
        _field("inner_lr", _REAL, "learning rate of the inner loop"),
        _field("inner_steps", _INT, "T, inner steps per inner loop"),
        _field("outer_lr", _REAL, "learning rate of the outer loop; null for evolution"),
        _field("mutation_scale", _REAL, "initial mutation scale; null for gradient"),
        _field("outer_steps", _INT, "outer steps or generations done"),
        _field("inner_steps_total", _INT, "inner steps of all networks trained by the search, probes excluded"),
        _field("started_at", _TIME, "when the attempt started, UTC"),
        _field("wall_seconds", _REAL, "duration of the attempt, monotonic clock [s]"),
        _field("params", _TEXT, "JSON: what the sampler chose for this trial"),
        _field("rung_accuracies", _REALS, "val_accuracy at each rung that was reached; null without a scheduler"),
        _field("rung_threshold", _REAL, "what a pruned trial would have had to reach at its last rung; else null"),
        _field("copied_from", _TEXT, "trial of the same configuration and seed whose end this row repeats; else null"),
        _field("config", _TEXT, "JSON: the resolved configuration of this trial"),
        *_PROVENANCE,
    ]
)

STEPS: Final = pa.schema(
    [
        *_COMMON,
        *_ORIGIN,
        _field("step", _INT, "from 0: the set before that outer step, or the best of that generation"),
        _field("outer_loss", _REAL, "mean training loss of the inner loop; for evolution that of the best candidate"),
        _field("inner_final_loss", _REAL, "training loss at the last inner step"),
        _field(
            "val_accuracy",
            _REAL,
            "validation accuracy (or skill, see trials.score) of probe networks; null where not recorded",
        ),
        _field("gradient_norm", _REAL, "Euclidean norm of the outer gradient before clamping; null for evolution"),
        _field("step_size", _REAL, "Euclidean length of the change of the set (best candidate for evolution)"),
        _field("population_best", _REAL, "lowest outer loss in the population; null for gradient"),
        _field("population_mean", _REAL, "mean outer loss of the population; null for gradient"),
        _field("diversity", _REAL, "root mean square distance of genomes from their mean; null for gradient"),
        _field("type_distance", _REAL, "smallest root mean square difference of two types' curves on [-2, 2]"),
        _field("inner_steps_total", _INT, "inner steps of all networks when the row's set was known, probes excluded"),
        _field("wall_seconds", _REAL, "time from the start of the search to that moment, probes excluded [s]"),
    ]
)

ACTIVATIONS: Final = pa.schema(
    [
        *_COMMON,
        *_ORIGIN,
        _field("num_types", _INT, "K, types in the set"),
        _field("base", _TEXT, "base function"),
        _field("subnet_hidden", _INTS, "hidden sizes of the sub-network"),
        _field("subnet_scale", _REAL, "factor of the sub-network's output"),
        _field("step", _INT, "outer step or generation at which the set was recorded"),
        _field("final", _FLAG, "true in the rows of the set that the trial found"),
        _field("type_index", _INT, "k, which type of the set"),
        _field("genome", _REALS, "weights of the sub-network of this type"),
        _field("x_min", _REAL, "left end of the curve"),
        _field("x_max", _REAL, "right end of the curve"),
        _field("curve", _REALS, "the activation on 100 equally spaced points of [x_min, x_max]"),
        _field("normalized", _FLAG, "whether gain and offset follow from the genome; null means no"),
        _field("gain", _REAL, "factor applied to the activation; 1 when not fitted"),
        _field("offset", _REAL, "value added to the activation after the gain; 0 when not fitted"),
        _field("table_range", _REAL, "the function was looked up in a table from minus to plus this; null means 10"),
        _field("table_scale", _INT, "cells of that table per unit; null means 64"),
        _field("table_error", _REAL, "bound of the error of a value in that table; null unless final"),
    ]
)

EVALUATIONS: Final = pa.schema(
    [
        *_COMMON,
        *_ORIGIN,
        _field("arm", _TEXT, "mixed | pure-0 | pure-1 | ... | relu | silu | ... | one of `CONTROLS`"),
        _field("num_types", _INT, "K of the set the arm is taken from; 1 for usual arms"),
        _field("base", _TEXT, "base function of the set; null for usual arms"),
        _field("architecture", _TEXT, "mlp | vgg_he | resnet | mobilenet_v2"),
        _field("width", _INT, "neurons per hidden layer; of relu-equal those of the network it is held against"),
        _field("depth", _INT, "hidden layers"),
        _field("learned_width", _INT, "width at which the set was learned (of several the nearest); null for usual"),
        _field("learned_depth", _INT, "depth at which the set was learned (of several the nearest); null for usual"),
        _field("num_params", _INT, "trained weights and biases of the network"),
        _field("mixing", _TEXT, "within_layer | per_layer | per_block"),
        _field("lr", _REAL, "learning rate of the training"),
        _field(
            "lr_protocol",
            _TEXT,
            "shared: one lr for all arms and sizes | per_arm_size: the best for each, by validation rows",
        ),
        _field("optimizer", _TEXT, "rmsprop | sgd | adam"),
        _field("epochs", _INT, "passes over the training rows"),
        _field("batch_size", _INT, "rows per inner step"),
        _field("split", _TEXT, "which rows judged the network: val | test"),
        _field("metric", _TEXT, "what a network is judged by: accuracy (high is good) | loss (low); null: accuracy"),
        _field("accuracy", _REAL, "share of right answers (0..1) after the last inner step; chance if diverged"),
        _field("loss", _REAL, "cross-entropy [nat] or squared error on the judging rows; null if diverged"),
        _field("train_loss", _REAL, "mean training loss over the last epoch; null if diverged"),
        _field("diverged", _FLAG, "whether a loss or weight became infinite or NaN"),
        _field("best_epoch_accuracy", _REAL, "highest accuracy after any epoch on the judging rows (optimistic)"),
        _field("rollout_error", _REAL, "mean squared error of a rolled-out orbit; null where the task has none"),
        _field("epoch_accuracies", _REALS, "accuracy on the judging rows after every epoch; null for regression"),
        _field("epoch_losses", _REALS, "mean training loss of every epoch"),
        _field("participation_ratio", _REAL, "R of the first hidden layer on the judging rows"),
        _field("participation_ratio_normalized", _REAL, "R / width"),
        _field("participation_ratio_corrected", _REAL, "R / width from two halves of the rows, bias removed"),
        _field("hessian_trace", _REAL, "trace of the Hessian of the training loss; null when not asked"),
        _field("hessian_trace_sem", _REAL, "standard error of the trace"),
        _field("hessian_top_eigenvalue", _REAL, "largest eigenvalue of the Hessian"),
        _field("hessian_eigenvalues", _REALS, "its largest eigenvalues, in falling order"),
        _field("near_zero_fraction", _REAL, "share of Hessian eigenvalues within near_zero_threshold of zero"),
        _field("near_zero_threshold", _REAL, "what near zero means: 1 % of the largest absolute eigenvalue"),
        _field("weight_norm", _REAL, "Euclidean norm of all weights and biases"),
        _field("outside_table", _REAL, "share of pre-activations outside the table of a learned activation; else null"),
        _field("curvature_method", _TEXT, "batched | pyhessian; null when not asked"),
        _field("curvature_rows", _INT, "training rows that the curvature was measured on; null when not asked"),
        _field("noise_alignment", _REAL, "cosine of gradient noise covariance and Hessian; null when not asked"),
        _field("noise_trace", _REAL, "trace of the covariance of one row's gradient; null when not asked"),
        _field("regime", _TEXT, "name of the training regime, see its configuration; null: plain"),
        _field("snapshot_accuracies", _REALS, "accuracy of each snapshot of the training; null without snapshots"),
        _field("ensemble_accuracy", _REAL, "accuracy of the mean of the snapshots' class probabilities"),
        _field("ensemble_weighted_accuracy", _REAL, "the same, weighted by exp(-training loss) of each snapshot"),
        _field("error_correlation", _REAL, "mean correlation of the errors of two snapshots"),
        _field("snapshot_distance", _REAL, "mean root mean square difference of two snapshots per parameter"),
        _field(
            "preactivation_density",
            _REALS,
            "share of pre-activations in 64 equal bins of [-8, 8], mean of hidden layers; null unless looked up",
        ),
        _field("wall_seconds", _REAL, "duration of the batch divided by its networks [s]"),
        _field("inner_steps", _INT, "inner steps of this network"),
        _field("batch_of_networks", _INT, "networks trained in the same call"),
        *_PROVENANCE,
    ]
)

SPECTRA: Final = pa.schema(
    [
        *_COMMON,
        *_ORIGIN,
        _field("arm", _TEXT, "arm of the evaluated network"),
        _field("width", _INT, "neurons per hidden layer"),
        _field("depth", _INT, "hidden layers"),
        _field("architecture", _TEXT, "as in evaluations"),
        _field("mixing", _TEXT, "as in evaluations"),
        _field("lr_protocol", _TEXT, "as in evaluations"),
        _field("regime", _TEXT, "as in evaluations"),
        _field("lr", _REAL, "as in evaluations"),
        _field("num_params", _INT, "weights and biases of the network: how many eigenvalues there are"),
        _field("smoothing", _REAL, "standard deviation of the Gaussian that stands for one eigenvalue"),
        _field("eigenvalues", _REALS, "grid of eigenvalues"),
        _field("density", _REALS, "spectral density on that grid"),
        _field("hessian_trace", _REAL, "as in evaluations, where this and what follows stands if measured when judged"),
        _field("hessian_trace_sem", _REAL, "as in evaluations"),
        _field("hessian_top_eigenvalue", _REAL, "as in evaluations"),
        _field("hessian_eigenvalues", _REALS, "as in evaluations"),
        _field("near_zero_fraction", _REAL, "as in evaluations"),
        _field("near_zero_threshold", _REAL, "as in evaluations"),
        _field("curvature_method", _TEXT, "as in evaluations"),
        _field("curvature_rows", _INT, "as in evaluations"),
        _field("noise_alignment", _REAL, "as in evaluations"),
        _field("noise_trace", _REAL, "as in evaluations"),
    ]
)

SPECTRAL_BIAS: Final = pa.schema(
    [
        *_COMMON,
        *_ORIGIN,
        _field("arm", _TEXT, "arm whose network was fitted to a sum of sinusoids"),
        _field("num_types", _INT, "K of the set the arm is taken from; 1 for usual arms"),
        _field("base", _TEXT, "base function of the set; null for usual arms"),
        _field("width", _INT, "neurons per hidden layer"),
        _field("depth", _INT, "hidden layers"),
        _field("optimizer", _TEXT, "rmsprop | sgd | adam"),
        _field("lr", _REAL, "learning rate of the fit"),
        _field("inner_steps", _INT, "inner steps of the fit"),
        _field("frequencies", _INTS, "periods of each sinusoid over the interval"),
        _field("steps_to_fit", _INTS, "inner steps until each has at most 10 % error; null inside where never"),
    ]
)

INITIAL_VARIANCE: Final = pa.schema(
    [
        *_COMMON,
        *_ORIGIN,
        _field("arm", _TEXT, "arm of the network, before its first training step"),
        _field("num_types", _INT, "K of the set the arm is taken from; 1 for usual arms"),
        _field("base", _TEXT, "base function of the set; null for usual arms"),
        _field("architecture", _TEXT, "as in evaluations"),
        _field("width", _INT, "as in evaluations"),
        _field("depth", _INT, "as in evaluations"),
        _field("mixing", _TEXT, "as in evaluations"),
        _field("batch_size", _INT, "rows of the network's first batch, on which it is measured"),
        _field(
            "variance_in",
            _REALS,
            "variance over rows and units of what goes into each activation, first to last; null inside if not finite",
        ),
        _field("variance_out", _REALS, "the same of what comes out of each activation"),
    ]
)

TABLES: Final[dict[str, pa.Schema]] = {
    "trials": TRIALS,
    "steps": STEPS,
    "activations": ACTIVATIONS,
    "evaluations": EVALUATIONS,
    "spectra": SPECTRA,
    "spectral_bias": SPECTRAL_BIAS,
    "initial_variance": INITIAL_VARIANCE,
}

UNIQUE_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "trials": ("trial_id", "attempt"),
    "steps": ("trial_id", "attempt", "step"),
    "activations": ("trial_id", "attempt", "step", "type_index"),
    "evaluations": (
        "trial_id", "arm", "task", "architecture", "width", "depth", "mixing", "lr_protocol", "regime", "split",
        "lr", "seed",
    ),
    "spectra": (
        "trial_id", "arm", "task", "architecture", "width", "depth", "mixing", "lr_protocol", "regime", "lr", "seed",
    ),
    "spectral_bias": ("trial_id", "arm", "width", "depth", "seed"),
    "initial_variance": ("trial_id", "arm", "task", "architecture", "width", "depth", "mixing", "seed"),
}  # fmt: skip
"""Columns whose values together occur at most once in a table."""


def describe(table: str) -> dict[str, str]:
    """Column name → description, in the order of the schema.

    Raises:
        KeyError: there is no table of that name.
    """
    return {field.name: field.metadata[b"description"].decode() for field in TABLES[table]}
