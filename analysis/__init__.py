"""Reads run folders and judges them: loaders, statistics, figures, the HTML report.  Never runs an experiment.

It needs neither ray nor torch, and importing it is light: matplotlib and jinja2 are imported when something is drawn
or written.

    run = analysis.load_run("runs/quickstart")
    print(*analysis.verdict(run).sentences)
    analysis.write_report(run)
"""

from analysis.comparison import Comparison, compare
from analysis.cross_size import cross_size_table
from analysis.figures import FIGURES, FigureRecipe, MissingDataError, figure
from analysis.initial_variance import initial_variance_table
from analysis.judgement import Outcome, Verdict, verdict
from analysis.load import Run, RunFolderError, counted_attempts, load_run
from analysis.pareto import objectives_of, pareto_front, pareto_table
from analysis.passport import Passport, PassportError, scale_passport
from analysis.passport_file import write_passport
from analysis.passport_label import Label, Rules, Standing
from analysis.passport_table import headline_passports, passport_table
from analysis.regimes import regime_table
from analysis.report import write_report
from analysis.sets import headline_sets
from analysis.statistics import (
    Estimate,
    Interval,
    difference_of_means,
    mean_interval,
    mean_intervals,
    paired_difference,
    share_won,
)
from analysis.style import save_figure

__all__ = [
    "FIGURES",
    "Comparison",
    "Estimate",
    "FigureRecipe",
    "Interval",
    "Label",
    "MissingDataError",
    "Outcome",
    "Passport",
    "PassportError",
    "Rules",
    "Run",
    "RunFolderError",
    "Standing",
    "Verdict",
    "compare",
    "counted_attempts",
    "cross_size_table",
    "difference_of_means",
    "figure",
    "headline_passports",
    "headline_sets",
    "initial_variance_table",
    "load_run",
    "mean_interval",
    "mean_intervals",
    "objectives_of",
    "paired_difference",
    "pareto_front",
    "pareto_table",
    "passport_table",
    "regime_table",
    "save_figure",
    "scale_passport",
    "share_won",
    "verdict",
    "write_passport",
    "write_report",
]
