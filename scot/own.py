"""What `--captions` chooses: for each part what is at hand, why, what that is worth, and what would make it better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from scot.chosen import Chosen, Part
from scot_core.config import EmbedConfig, FitConfig, Pipeline
from scot_core.encoders.presence import encoder_missing, towers_missing
from scot_core.encoders.weights import hub_is_reached
from scot_core.lake import Dataset, Lake
from scot_core.llm.local.devices import gpus
from scot_core.stages import preflight

BEST_FIRST = ("siglip2", "clip-l14", "blip2", "blip", "clip-b32")
ALONE = 0.02  # a modality that weighs less is not looked at


def of_captions(captions: str, given: Sequence[str], llm: str | None) -> Chosen:
    """Settings for captions of one's own; those that are given stay as they are."""
    named = {setting.partition("=")[0].strip(): setting.partition("=")[2] for setting in given}
    place = captions if "://" in captions else str(Path(captions).expanduser().absolute())
    settings = ["captions.source=folder", f"captions.path={place}"]
    parts = []
    if "embed.encoder" not in named:
        chosen, part = _encoder(named)
        settings += chosen
        parts.append(part)
    server = named.get("seed.endpoint.base_url")
    if named.get("generate.writer", "adapter" if server and llm else "mined") == "mined":
        settings += ["generate.writer=mined", "benchmark.names=mined"]
        why = "edits found between the captions, by no model; real captions, but only edits that they show"
        if server:
            why += f". {server} is not asked: name the model to tune on its triplets, too (--llm smollm2), or let it "
            why += f"write them all (--set generate.writer=endpoint --set generate.endpoint.base_url={server} "
            why += "--set generate.endpoint.model=…)"
        else:
            why += ". Richer, by a server: --set generate.writer=endpoint --set generate.endpoint.base_url=… --set "
            why += "generate.endpoint.model=…; or by a model of one's own that is tuned on its seeds: --set "
            why += "seed.endpoint.base_url=… --set seed.endpoint.model=… --llm smollm2 (after `make smollm`)"
        parts.append(Part("triplets", "mined", why))
        parts.append(Part("measured", "mined", "queries between captions that training never sees; no published row"))
        if "train.loss" not in named:
            settings += [
                "train.loss=infonce-with-captions",
                *([] if "train.dropout" in named else ["train.dropout=0.3"]),
            ]
            why = "tells the real captions apart that mined edits end in; the paper's: --set train.loss=scot"
            parts.append(Part("loss", "InfoNCE", why))
    elif named.get("generate.writer") == "endpoint":
        asked = named.get("generate.endpoint.model", "its model"), named.get("generate.endpoint.base_url", "a server")
        why = "asked for every caption, as a teacher is for seeds; nothing is tuned. generate.max_usd limits its price"
        parts.append(Part("triplets", " of ".join(asked), why))
    else:
        parts.append(Part("triplets", f"{llm or 'the profile’s model'} tuned on {server or 'the teacher'}", "as set"))
    return Chosen((*settings, *given), tuple(parts))


def _encoder(named: Mapping[str, str]) -> tuple[list[str], Part]:
    """A published encoder where there is one, else one that is fitted to the captions. `named`: settings given."""
    order = BEST_FIRST if gpus() else BEST_FIRST[::-1]
    here = [name for name in order if encoder_missing(EmbedConfig(encoder=name)) is None]
    if here:
        part = Part("encoder", here[0], "a published encoder whose weights are on this machine")
        return [f"embed.encoder={here[0]}"], part
    if hub_is_reached():
        return [f"embed.encoder={order[0]}"], Part(
            "encoder", order[0], "a published encoder; its weights come from the hub"
        )
    usual = FitConfig()
    towers = {key: named.get(f"fit.{key}", getattr(usual, key)) for key in ("image_tower", "text_tower")}
    missing = towers_missing(FitConfig(**towers))
    settings = ["embed.encoder=fitted"]
    why = "no published encoder is on this machine and no hub is reached, so one is fitted to these captions, "
    if missing is not None and "fit.image_tower" not in named:
        settings.append("fit.image_tower=nothing")
        why += f"from nothing: of little worth. Better, as {missing}. "
    elif towers["image_tower"] == "nothing":
        why += "from nothing: of little worth. "
    else:
        why += f"over {towers['image_tower']} and {towers['text_tower']}: it knows these pictures and no others, and "
        why += "is no CLIP. Its recall of held-out captions stands in every table. "
    return settings, Part("encoder", "fitted", f"{why}Best: {encoder_missing(EmbedConfig(encoder='clip-b32'))}")


def check(lake: Lake, pipeline: Pipeline) -> Chosen:
    """Whether encoder and teacher fit captions that are not drawn: settings that are cut, what was found, and faults.

    Nothing is tried where the vectors are in the lake already. Raises ModelError where weights cannot be had, and
    DataError where captions cannot.
    """
    tried = preflight.tried(lake, pipeline)
    if tried is None:
        return Chosen(())
    found = tried.sample
    parts = [Part("captions", f"{found.pairs:,}{'' if found.whole else ' or more'}", f"in {found.place}")]
    if tried.probe is not None:
        parts.append(Part("encoder", pipeline.embed.encoder, str(tried.probe)))
    parts += [Part("settings", setting, f"of {found.pairs:,} captions") for setting in tried.cut]
    return Chosen(tried.cut, tuple(parts), tried.faults, found.pairs)


def saturated(lake: Lake, combiners: Dataset) -> str | None:
    """What is to be said where a Combiner looks at one of the two modalities alone."""
    from scot_core.stages.train import text_share

    share = text_share(lake, combiners)
    if ALONE < share < 1 - ALONE:
        return None
    looks, other = ("text", "image") if share > 0.5 else ("image", "text")
    return (
        f"the Combiner {combiners.key} weighs the text with {share:.2f}: it looks at the {looks} alone, "
        f"and the {other} changes nothing. The encoder does not know these pictures, or the triplets are too "
        "few or too much alike"
    )
