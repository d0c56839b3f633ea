"""What pyproject.toml cannot say: the kernels in C, and where jobs/ and slurm/ lie once installed.

`package_dir` could map them, but then an editable install sees two homes; a build step leaves
the checkout (and the editable install, which reads it) as it is and copies for wheels alone.
"""

from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

HOMES = {"jobs": {".py", ".rst", ".yaml"}, "slurm": {".rst", ".sbatch", ".sh", ".yaml"}}
MADE_BY_RUNS = {"__pycache__", "data", "runs"}


def shipped_files() -> list[Path]:
    """Return the files of jobs/ and slurm/ that a user reads, without what running them leaves behind."""
    return [
        path
        for home, suffixes in HOMES.items()
        for path in sorted(Path(home).rglob("*"))
        if path.suffix in suffixes and MADE_BY_RUNS.isdisjoint(path.parts)
    ]


class BuildWithHomes(build_py):
    """The ordinary build, then hpcml/jobs and hpcml/slurm beside the modules."""

    def _targets(self) -> list[tuple[Path, Path]]:
        return [(path, Path(self.build_lib, "hpcml", path)) for path in shipped_files()]

    def run(self) -> None:
        """Copy the two homes unless the install is editable."""
        super().run()
        if self.editable_mode:
            return
        for source, target in self._targets():
            self.mkpath(str(target.parent))
            self.copy_file(str(source), str(target))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Return what the build writes, so that uninstalling removes it."""
        extra = [] if self.editable_mode else [str(target) for _, target in self._targets()]
        return [*super().get_outputs(include_bytecode), *extra]


KERNELS = Path("hpcml", "algorithms", "kernels")

# optional: without a compiler hpcml installs and computes with NumPy. Each file asks for its instruction set
# itself, and the module chooses when it runs, so one build serves every machine of an architecture. Products
# are joined to sums only where the source says so, and nothing is reordered: the bits are promised.
FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fno-fast-math", "-fvisibility=hidden"]

compiled = Extension(
    "hpcml.algorithms.kernels._compiled",
    sources=[str(path) for path in sorted(KERNELS.glob("*.c"))],
    depends=[str(path) for path in sorted(KERNELS.glob("*.h"))],
    extra_compile_args=FLAGS,
    py_limited_api=True,
    optional=True,
)

limbs = Extension(
    "hpcml.collectives._limbs",
    sources=["hpcml/collectives/_limbs.c"],
    extra_compile_args=FLAGS,
    py_limited_api=True,
    optional=True,
)

setup(
    cmdclass={"build_py": BuildWithHomes},
    ext_modules=[compiled, limbs],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
