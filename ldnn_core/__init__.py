"""The mathematics of learned activation sets: pure PyTorch, batched over networks.

Everything is a batch of networks, with a leading axis N; one network is N = 1.  Activations are looked up in tables,
networks are differentiated by hand, and the meta-gradient runs through the whole training in flat memory.
"""

from ldnn_core.activations import (
    BankActivation,
    ExactBank,
    GroupedActivation,
    TableBank,
    UsualActivation,
    mixed_functions,
    pure_functions,
)
from ldnn_core.algorithms import ALGORITHMS, Algorithm, CmaEs, Genetic, OpenaiEs, Snes
from ldnn_core.card import ActivationCard, ObservedInputs, TableErrors, make_card
from ldnn_core.card_file import read_card, write_card
from ldnn_core.card_rules import CardError
from ldnn_core.curvature import Curvature, measure_curvature
from ldnn_core.estimators import ESTIMATORS, Carry, Es, Estimator, FirstOrder, OuterGradient, Pes, Truncated, Unrolled
from ldnn_core.evaluation import Judgement, Training, evaluate_arms, evaluate_sizes, fully_connected
from ldnn_core.learned_activation import LearnedActivation, load_activation
from ldnn_core.losses import CrossEntropy, SquaredError
from ldnn_core.mlp import MlpSpec
from ldnn_core.optimizers import SGD, Adam, Optimizer, RMSprop
from ldnn_core.outer import OuterSGD
from ldnn_core.participation import corrected_participation_ratio, participation_ratio
from ldnn_core.population import evaluate_population
from ldnn_core.randomness import generator
from ldnn_core.spectral_bias import SpectralBias, measure_spectral_bias
from ldnn_core.subnetwork import ActivationSpec, initial_genomes
from ldnn_core.tasks import TASKS, DataError, Mnist1d, TaskData, cache_folder
from ldnn_core.training import Batches, InnerProblem, shuffled_rows, train

__all__ = [
    "ALGORITHMS",
    "ESTIMATORS",
    "SGD",
    "TASKS",
    "ActivationCard",
    "ActivationSpec",
    "Adam",
    "Algorithm",
    "BankActivation",
    "Batches",
    "CardError",
    "Carry",
    "CmaEs",
    "CrossEntropy",
    "Curvature",
    "DataError",
    "Es",
    "Estimator",
    "ExactBank",
    "FirstOrder",
    "Genetic",
    "GroupedActivation",
    "InnerProblem",
    "Judgement",
    "LearnedActivation",
    "MlpSpec",
    "Mnist1d",
    "ObservedInputs",
    "OpenaiEs",
    "Optimizer",
    "OuterGradient",
    "OuterSGD",
    "Pes",
    "RMSprop",
    "Snes",
    "SpectralBias",
    "SquaredError",
    "TableBank",
    "TableErrors",
    "TaskData",
    "Training",
    "Truncated",
    "Unrolled",
    "UsualActivation",
    "cache_folder",
    "corrected_participation_ratio",
    "evaluate_arms",
    "evaluate_population",
    "evaluate_sizes",
    "fully_connected",
    "generator",
    "initial_genomes",
    "load_activation",
    "make_card",
    "measure_curvature",
    "measure_spectral_bias",
    "mixed_functions",
    "participation_ratio",
    "pure_functions",
    "read_card",
    "shuffled_rows",
    "train",
    "write_card",
]
