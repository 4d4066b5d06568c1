"""Print constraints from what is installed: `make lock`.

Local version tags (`+cpu`) are left out, so that the same pins give a GPU build where there is a GPU, and CUDA's own
packages are left to torch.
"""

from __future__ import annotations

from importlib.metadata import distributions

OWN = {"scot", "pip", "setuptools", "wheel"}  # the environment itself
PLATFORM = ("nvidia-", "triton", "cuda-")


def main() -> None:
    pins = {
        distribution.metadata["Name"].lower().replace("_", "-"): distribution.version.partition("+")[0]
        for distribution in distributions()
    }
    for name, version in sorted(pins.items()):
        if name not in OWN and not name.startswith(PLATFORM):
            print(f"{name}=={version}")


if __name__ == "__main__":
    main()
