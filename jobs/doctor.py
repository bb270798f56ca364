"""What works on this machine, and what to do about what does not."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.terminal import print_json, print_table
from search.provenance import code_version, library_versions

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: its name.
        state: ``ok``, or ``note`` for what only slows things down, or ``bad``.
        words: what was found and, unless ok, the way out.
    """

    what: str
    state: str
    words: str


def findings() -> list[Finding]:
    """Look at everything."""
    return [_python(), _versions(), _cores(), _memory(), _disk(), _torch(), _kernels(), _task(), _ray()]


def _python() -> Finding:
    version = sys.version.split()[0]
    return Finding("python", "ok" if sys.version_info >= (3, 11) else "bad", f"{version}; 3.11 or newer is needed")


def _versions() -> Finding:
    version, dirty = code_version()
    libraries = ", ".join(f"{name} {number}" for name, number in library_versions().items() if name != "python")
    return Finding("ldnn", "ok", f"{version}{' with uncommitted changes' if dirty else ''}; {libraries}")


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Finding("cores", "ok", f"{cores}; --workers {cores} uses them all")


def _memory() -> Finding:
    try:
        gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):
        return Finding("memory", "note", "unknown on this system")
    return Finding("memory", "ok" if gib >= 4 else "note", f"{gib:.1f} GiB; about 1 GiB per worker is used")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return Finding("disk", "ok" if free >= 1 else "bad", f"{free:.1f} GiB free here")


def _torch() -> Finding:
    import torch

    from ldnn_core.accelerator import cuda_path

    if not torch.cuda.is_available():
        return Finding("device", "ok", f"cpu; CUDA: {cuda_path()}, which small networks do not need")
    return _cuda(torch.device("cuda"))


def _cuda(device: torch.device) -> Finding:
    """Differentiate a short training there, which is the first attempt to compile for it, and on the CPU."""
    import torch

    from ldnn_core.accelerator import CUDA, cuda_path

    try:
        there, here = _meta_gradient(device), _meta_gradient(torch.device("cpu"))
        name = torch.cuda.get_device_name()
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for CUDA
        return Finding("device", "bad", f"CUDA does not work here ({error}): --set resources.device=cpu does")
    if not torch.allclose(there, here, rtol=1e-3, atol=1e-6):
        words = f"{name} gives another meta-gradient than the CPU: report this, and use --set resources.device=cpu"
        return Finding("device", "bad", words)
    use = "--set resources.device=cuda --set resources.gpus_per_trial=0.25 uses it"
    words = f"{name}: {use}; look-ups and updates: {cuda_path()}"
    return Finding("device", "ok" if CUDA.failure is None else "note", words)


def _meta_gradient(device: torch.device) -> torch.Tensor:
    """That of a set through two inner steps of a small network on random rows, on the CPU."""
    import torch

    from ldnn_core import losses, mlp, optimizers, training
    from ldnn_core.activations import BankActivation, TableBank, mixed_functions
    from ldnn_core.estimators import Unrolled
    from ldnn_core.randomness import generator
    from ldnn_core.subnetwork import ActivationSpec, initial_genomes

    source = generator(0, "doctor")
    x, y = torch.randn(40, 5, generator=source), torch.randint(3, (40,), generator=source)
    rows = training.shuffled_rows(40, 8, 2, [source])
    batches = training.Batches(x.to(device), y.to(device), rows.to(device))
    network, spec = mlp.MlpSpec(5, (8,), 3, losses.CrossEntropy()), ActivationSpec()
    activation = BankActivation(TableBank(spec, initial_genomes(spec, 0).to(device)), mixed_functions((8,), 2))
    problem = training.InnerProblem(network, optimizers.RMSprop(), 0.01)
    parameters = network.initial_parameters([source]).to(device)
    return Unrolled().estimate(problem, parameters, batches, activation, 2).gradient.cpu()


def _kernels() -> Finding:
    import torch

    from ldnn_core.activations import TableBank
    from ldnn_core.compiled import FUSED_AVAILABLE
    from ldnn_core.subnetwork import ActivationSpec, initial_genomes

    if not FUSED_AVAILABLE:
        return Finding("kernels", "note", "numba cannot be imported: the slower eager path is used; pip install numba")
    spec = ActivationSpec()
    genomes = initial_genomes(spec, 0)
    a, function = torch.randn(2, 8, 4), torch.zeros(1, 4, dtype=torch.int64)
    fused = TableBank(spec, genomes).value_slope(a, function)[0]
    eager = TableBank(spec, genomes, fused=False).value_slope(a, function)[0]
    agree = bool(torch.allclose(fused, eager, atol=1e-5))
    words = "compiled look-ups work" if agree else "compiled look-ups give other numbers than eager ones: report this"
    return Finding("kernels", "ok" if agree else "bad", words)


def _task() -> Finding:
    from ldnn_core.tasks import DataError, Mnist1d, cache_folder

    try:
        data = Mnist1d().load(cache_folder())
    except (DataError, OSError, ImportError) as error:
        return Finding("mnist1d", "bad", str(error))
    return Finding("mnist1d", "ok", f"{len(data.train)} + {len(data.val)} + {len(data.test)} rows in {cache_folder()}")


def _ray() -> Finding:
    from importlib.util import find_spec

    if find_spec("ray") is None:
        return Finding("ray", "bad", "not installed: nothing can be searched; pip install 'ray[tune]'")
    return Finding("ray", "ok", "installed")


def show_doctor(*, as_json: bool) -> None:
    """Print the findings; leaves with 1 if one is bad."""
    found = findings()
    if as_json:
        print_json([asdict(finding) for finding in found])
    else:
        print_table(("what", "state", "found"), [(one.what, one.state, one.words) for one in found])
    if any(finding.state == "bad" for finding in found):
        sys.exit(1)
