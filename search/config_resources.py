"""The table ``[resources]`` of a recipe: where the work is done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from search.config_errors import Relation
from search.config_types import Table


class ResourcesConfig(Table):
    """Where the work is done; no result depends on it, so it is no part of a configuration's hash."""

    workers: Annotated[int, Field(ge=0, le=10_000)] = 2
    """Trials at the same time; 0 runs them one after another in this process, without Ray."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """Threads of each worker."""
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    """auto takes a CUDA device if there is one."""
    gpus_per_trial: Annotated[float, Field(ge=0, le=64)] = 0.0
    """GPUs booked for a trial; a fraction lets several trials share one."""
    workers_per_trial: Annotated[int, Field(ge=0, le=1000)] = 0
    """Further processes over which each trial spreads its shards; 0, or workers = 0, lets a trial do them itself."""
    gpus_per_worker: Annotated[float, Field(ge=0, le=64)] = 0.0
    """GPUs booked for each of those processes; a fraction lets several share one."""
    checkpoint_seconds: Annotated[float, Field(ge=0, le=1e6)] = 60.0
    """How often a running trial keeps a checkpoint, from which another attempt goes on; 0 for never."""
    memory_per_trial: Annotated[int, Field(ge=0, le=2**24)] = 0
    """Megabytes (2^20 bytes) that a trial may ask for before it ends with the status oom; 0 for any number. Host memory
    only, and that of the trial's own process, not of its shards' workers."""

    def _relations(self) -> Iterator[Relation]:
        gpus = self.gpus_per_trial
        yield Relation(
            "gpus_per_trial is 0 when device = 'cpu'", self.device != "cpu" or gpus == 0, ("gpus_per_trial", "device")
        )
        yield Relation("gpus_per_trial is whole when above 1", gpus <= 1 or gpus == int(gpus), ("gpus_per_trial",))
        spread, own = self.workers_per_trial, self.gpus_per_worker
        yield Relation("gpus_per_worker is whole when above 1", own <= 1 or own == int(own), ("gpus_per_worker",))
        # A trial trains its probes and its score by itself, on the same kind of device as its shards.
        rule = "gpus_per_worker is above 0 exactly when gpus_per_trial and workers_per_trial are"
        keys = ("gpus_per_worker", "gpus_per_trial", "workers_per_trial")
        yield Relation(rule, (own > 0) == (gpus > 0 and spread > 0), keys)
