"""The package works where neither ray nor torch is installed, and imports quickly."""

import subprocess
import sys
import textwrap
from pathlib import Path

import analysis

ROOT = Path(analysis.__file__).parents[1]


def in_fresh_process(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_report_is_written_without_ray_torch_or_the_rest(make_run):
    folder = make_run()
    folder.evaluations("usual", {"relu": [0.50, 0.51, 0.52, 0.53, 0.54, 0.55]})
    folder.evaluations("gradient-0000", {"mixed": [0.60, 0.60, 0.62, 0.64, 0.63, 0.65]})
    out = in_fresh_process(
        """
        import sys
        absent = {"ray", "torch", "optuna", "pydantic", "typer", "rich", "numba", "ldnn_core", "jobs"}
        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in absent:
                    raise ModuleNotFoundError(name)
        sys.meta_path.insert(0, Absent())
        import analysis
        run = analysis.load_run(sys.argv[1])
        print(analysis.verdict(run).sentences[0])
        print(analysis.write_report(run))
        """,
        folder.path,
    )
    assert "beats ReLU" in out
    assert out.rstrip().endswith("index.html")


def test_importing_loads_neither_matplotlib_nor_jinja2():
    out = in_fresh_process(
        """
        import sys
        import analysis
        print([name for name in ("matplotlib", "jinja2", "ray", "torch") if name in sys.modules])
        """
    )
    assert out.strip() == "[]"


def test_everything_that_is_promised_is_there():
    assert all(hasattr(analysis, name) for name in analysis.__all__)
