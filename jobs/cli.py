"""The command ``ldnn``: what a person types, and what it answers.

Exit codes: 0 done, 1 a run failed, 2 the input is wrong (said before anything starts), 130 interrupted and resumable.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from jobs.errors import EXIT_INTERRUPTED, EXIT_WRONG_INPUT, user_errors

app = typer.Typer(
    name="ldnn",
    help="Search for sets of neuron activation functions, and judge them across network sizes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the recipe, e.g. search.trials=8; repeatable."),
]


def _location(text: Any) -> Any:
    from search.location import LocationError, parse_location

    try:
        return parse_location(text)
    except LocationError as error:
        raise typer.BadParameter(str(error)) from None


# Typer knows no unions, so a folder or an address (`search.location.Location`) is Any to it.
Out = Annotated[
    Any,
    typer.Option(metavar="PLACE", parser=_location, help="Folder that holds the run folders, or s3://bucket/prefix."),
]
Workers = Annotated[
    int | None, typer.Option(min=0, help="Units of work at the same time; 0 works in this process, without Ray.")
]
Address = Annotated[str | None, typer.Option(help="Ray cluster to use, host:port or auto; by default one is started.")]
OtherCode = Annotated[
    bool, typer.Option("--other-code", help="Go on although the code is not that which made the run; recorded.")
]
Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON object, for programs.")]
RunArgument = Annotated[
    Any,
    typer.Argument(
        metavar="RUN", parser=_location, help="Run folder, e.g. runs/quickstart, or s3://bucket/prefix/quickstart."
    ),
]


@app.command(epilog="Example:  ldnn search quickstart --set search.trials=8 --workers 4")
def search(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a recipe (see `ldnn recipes`) or a .toml.")],
    settings: Set = None,
    out: Out = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run if it exists already.")] = False,
    fork: Annotated[
        Any,
        typer.Option("--fork", metavar="RUN", parser=_location, help="Make a new run, and say what differs from RUN."),
    ] = None,
    other_code: OtherCode = False,
    address: Address = None,
    workers: Workers = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Search activation sets, judge them across sizes, and write the report."""
    from jobs.running import How, start

    how = How(address, workers, as_json, other_code)
    start(recipe, settings or [], out, how, resume=resume, dry=dry_run, fork_of=fork)


@app.command(epilog="Example:  ldnn resume runs/quickstart")
def resume(
    run: RunArgument,
    other_code: OtherCode = False,
    address: Address = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Go on with a run that was interrupted; nothing that is done is done again."""
    from jobs.running import How, go_on

    go_on(run, How(address, workers, as_json, other_code))


@app.command(
    epilog="Example:  ldnn extend runs/quickstart --trials 12\n\n"
    "Example:  ldnn extend runs/quickstart --trials 12 --set search.space.inner_lr.high=0.1"
)
def extend(
    run: RunArgument,
    trials: Annotated[int, typer.Option(min=1, help="Trials of each method that there shall be, in all.")],
    settings: Set = None,
    other_code: OtherCode = False,
    address: Address = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Give a run more trials, also from a wider search space, and go on with it.

    All trials that are there stay as they are. With more trials alone the run becomes what it would have been with so
    many from the start. What changed, and from which trial on, is recorded in the run's folder, in lineage.
    """
    from jobs.running import How
    from jobs.running import extend as extend_run

    extend_run(run, settings or [], How(address, workers, as_json, other_code), trials=trials)


@app.command(epilog="Example:  ldnn fork runs/quickstart --set ldnn.width=100 --set name=quickstart-wide")
def fork(
    run: RunArgument,
    settings: Set = None,
    out: Annotated[
        Any, typer.Option(metavar="PLACE", parser=_location, help="Where the new run's folder is made; beside RUN.")
    ] = None,
    address: Address = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Make a new run from the configuration of another one with changes, which are shown and recorded, and start it."""
    from jobs.running import How
    from jobs.running import fork as fork_run

    fork_run(run, settings or [], out, How(address, workers, as_json))


@app.command(epilog="Example:  ldnn replay runs/quickstart --trial gradient-0003")
def replay(
    run: RunArgument,
    trial: Annotated[str, typer.Option(help="The trial by its id.")],
    as_json: Json = False,
) -> None:
    """Run one trial again in this process, and say whether its numbers are equal, or how they differ.

    Nothing is written. Exit code 0 if all are equal to the bit, 1 if not.
    """
    from jobs.replaying import show_replay

    show_replay(run, trial, as_json=as_json)


@app.command(epilog="Example:  ldnn status runs/quickstart")
def status(run: RunArgument, as_json: Json = False) -> None:
    """Say how far a run is, what failed and why; works while it runs."""
    from jobs.status import show_status

    show_status(run, as_json=as_json)


@app.command(epilog="Example:  ldnn verify runs/quickstart --json")
def verify(run: RunArgument, as_json: Json = False) -> None:
    """Check every byte, key and origin of a run's tables, and change nothing; exit code 1 if there is a fault."""
    from jobs.upkeep import show_verification

    show_verification(run, as_json=as_json)


@app.command(epilog="Example:  ldnn compact runs/quickstart --remove-parts")
def compact(
    run: RunArgument,
    remove_parts: Annotated[
        bool, typer.Option("--remove-parts", help="Remove the parts that a compacted file has replaced.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make one file of each table, which reads faster than thousands of parts; the run can go on afterwards.

    The old parts are kept in RUN/replaced until they are removed with --remove-parts, which may come later.
    """
    from jobs.upkeep import compact_and_show

    compact_and_show(run, remove_parts=remove_parts, as_json=as_json)


@app.command(epilog="Example:  ldnn evaluate runs/quickstart --best 2 --widths 20,50,100,200,400 --seeds 50")
def evaluate(
    run: RunArgument,
    best: Annotated[int | None, typer.Option(min=1, help="How many of the best trials of each method.")] = None,
    trial: Annotated[list[str] | None, typer.Option(help="A trial by its id, e.g. gradient-0003; repeatable.")] = None,
    widths: Annotated[str | None, typer.Option(help="Neurons per hidden layer, e.g. 20,50,100.")] = None,
    depths: Annotated[str | None, typer.Option(help="Hidden layers, e.g. 1,2,3.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Networks per arm and size.")] = None,
    usual: Annotated[str | None, typer.Option(help="Usual activations, e.g. relu,silu,gelu,tanh,sin,elu,hat.")] = None,
    controls: Annotated[str | None, typer.Option(help="Controls of a win, e.g. untrained,shuffled; or all.")] = None,
    curvature: Annotated[
        str | None, typer.Option(help="Measure the Hessian of the first networks: batched or pyhessian.")
    ] = None,
    spectral_bias: Annotated[
        bool, typer.Option("--spectral-bias", help="Measure how soon the arms learn sinusoids of rising frequency.")
    ] = False,
    initial_variance: Annotated[
        bool, typer.Option("--initial-variance", help="Measure the signal of every layer before the first step.")
    ] = False,
    task: Annotated[
        str | None, typer.Option(help="Tasks to judge them on, e.g. digits,van_der_pol; by default the run's.")
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="Kinds of network, e.g. mlp,vgg_he,resnet,mobilenet_v2; sizes are theirs.")
    ] = None,
    mixing: Annotated[
        str | None, typer.Option(help="Where types are told apart, e.g. within_layer,per_layer,per_block.")
    ] = None,
    address: Address = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Train fresh networks with found sets and judge them on test rows; networks that are there are kept."""
    from jobs.running import How, judge_more
    from search.schema import CONTROLS

    changes = {
        "widths": _numbers("--widths", widths),
        "depths": _numbers("--depths", depths),
        "seeds": seeds,
        "usual": _names(usual),
        "controls": tuple(CONTROLS) if controls == "all" else _names(controls),
        "spectral_bias": spectral_bias or None,
        "initial_variance": initial_variance or None,
        "architectures": _names(architecture),
        "mixings": _names(mixing),
    }
    changes = {key: value for key, value in changes.items() if value is not None}
    how = How(address, workers, as_json)
    judge_more(run, changes, how, best=best, trials=trial or [], tasks=_names(task), curvature=curvature)


@app.command(epilog="Example:  ldnn compare runs/quickstart runs/quickstart-seed1")
def compare(
    runs: Annotated[list[Any], typer.Argument(metavar="RUN", parser=_location, help="One or several runs.")],
    as_json: Json = False,
) -> None:
    """Compare gradient with evolution at equal inner steps and at equal time, with intervals."""
    from jobs.results import show_comparison

    show_comparison(runs, as_json=as_json)


@app.command(epilog="Example:  ldnn passport runs/quickstart --trial gradient-0003")
def passport(
    run: RunArgument,
    trial: Annotated[
        str | None, typer.Option(help="A trial by its id; by default the best set of each method.")
    ] = None,
    lr_protocol: Annotated[
        str | None,
        typer.Option(
            help="Networks whose rates were chosen so: shared, or (by default, if there are any) per_arm_size."
        ),
    ] = None,
    regime: Annotated[str | None, typer.Option(help="Networks trained under this regime; by default plain.")] = None,
    as_json: Json = False,
) -> None:
    """Say what becomes of a set at other sizes: its scale passport, as label, table, picture and Parquet file."""
    from jobs.results import show_passports

    show_passports(run, trial, lr_protocol=lr_protocol, regime=regime, as_json=as_json)


@app.command(epilog="Example:  ldnn report runs/quickstart")
def report(run: RunArgument) -> None:
    """Write all tables and figures of a run into one HTML file that needs no network."""
    from analysis import write_report

    typer.echo(str(write_report(run)))


@app.command(epilog="Example:  ldnn export runs/quickstart --trial gradient-0003 --out set.safetensors")
def export(
    run: RunArgument,
    out: Annotated[Path, typer.Option(metavar="SET.safetensors", help="The file; a picture lies beside it.")],
    trial: Annotated[
        str | None, typer.Option(help="A trial by its id; by default the one with the best score.")
    ] = None,
    numpy_file: Annotated[
        Path | None, typer.Option("--numpy", metavar="FILE.npz", help="Plain NumPy arrays as well.")
    ] = None,
) -> None:
    """Write a found set as an activation card, a file that `ldnn_core.load_activation` makes a module of."""
    from jobs.export import export_set

    export_set(run, trial, out, numpy_file)


@app.command(epilog="Example:  ldnn interpolate set.safetensors --points 51,101,201")
def interpolate(
    card: Annotated[Path, typer.Argument(metavar="SET.safetensors", help="An activation card.")],
    points: Annotated[str | None, typer.Option(help="How many known points, e.g. 51,101,201.")] = None,
    as_json: Json = False,
) -> None:
    """Compare ways to interpolate the functions of a card: splines, polynomials, a rational function, the table."""
    from jobs.interpolation import POINTS, show_interpolation

    show_interpolation(card, _numbers("--points", points) or POINTS, as_json=as_json)


@app.command(
    epilog="Example:  ldnn simulate runs/quickstart --trials 10000 --workers 100 --set search.wave=100\n\n"
    "Example:  ldnn simulate runs/quickstart --trials 1000 --workers 50 --deaths-per-hour 0.5 --json\n\n"
    "Example:  ldnn simulate runs/quickstart --trials 900 --set search.scheduler=halving --set search.wave=9"
)
def simulate(
    run: RunArgument,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials of each method; by default as in the run.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Virtual workers.")] = 2,
    deaths_per_hour: Annotated[float, typer.Option(min=0, help="How often a worker at work dies.")] = 0.0,
    overhead: Annotated[float, typer.Option(min=0, help="Seconds the driver takes to start one trial.")] = 0.0,
    stretch: Annotated[float, typer.Option(min=1e-6, help="How many times longer than recorded trials take.")] = 1.0,
    settings: Set = None,
    as_json: Json = False,
) -> None:
    """Try a search on a virtual clock with the recorded trials of a run: its time, its waste, its driver's cost.

    The plan of the search, its samplers, its scheduler and the ledger of what runs are the real ones. Durations, scores
    and diverged trials are interpolated from the run, which should have no scheduler, as trials that were stopped early
    are left out; workers and their deaths are made up; nothing is trained or written.
    """
    from jobs.simulation import show_simulation

    show_simulation(
        run,
        settings or [],
        trials=trials,
        workers=workers,
        deaths_per_hour=deaths_per_hour,
        overhead=overhead,
        stretch=stretch,
        as_json=as_json,
    )


@app.command(epilog="Example:  ldnn recipes --json")
def recipes(as_json: Json = False) -> None:
    """List the recipes that come with the package."""
    from jobs.results import show_recipes

    show_recipes(as_json=as_json)


@app.command(epilog="Example:  ldnn cluster --json")
def cluster(as_json: Json = False) -> None:
    """Say where the files for clusters are: Ray's cluster launcher, KubeRay, Slurm."""
    from jobs.results import show_cluster_files

    show_cluster_files(as_json=as_json)


@app.command(epilog="Example:  ldnn doctor --json")
def doctor(as_json: Json = False) -> None:
    """Say what works on this machine: versions, cores, memory, devices, compiled kernels, disk."""
    from jobs.doctor import show_doctor

    show_doctor(as_json=as_json)


@app.command(epilog="Example:  ldnn bench meta-step population --json")
def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAMES",
            help="meta-step, population, memory, estimators, evolution, tune, store, curvature, regimes; default: all.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: CUDA where there is one.")] = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, to see that it works.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Answer with one JSON list, for programs.")] = False,
) -> None:
    """Measure speed and memory of the engine against honest references; minutes, on a quiet machine."""
    from jobs.bench.show import show_benchmarks

    show_benchmarks(names or [], device=device, quick=quick, as_json=as_json)


def _numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"{option} must be whole numbers above 0 with commas between, but got {text!r}")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _names(text: str | None) -> tuple[str, ...] | None:
    """Names with commas between; their values are checked with those of a recipe."""
    return None if text is None else tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and leave with its exit code."""
    try:
        with user_errors():
            app(args=list(arguments) if arguments is not None else None, prog_name="ldnn", standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(EXIT_WRONG_INPUT)  # not reached: the application leaves by itself
