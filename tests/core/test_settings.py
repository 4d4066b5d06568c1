"""The settings that are listed are those that can be set."""

from __future__ import annotations

from scot_core.config import Pipeline, listed, with_overrides


def test_every_setting_is_listed_with_its_help_and_can_be_set_to_what_it_is() -> None:
    known = listed()
    assert all(setting.help and setting.type for setting in known)
    keys = {setting.key: setting for setting in known}
    assert keys["generate.writer"].type == "adapter | mined | endpoint" and keys["seed.count"].default == "4000"
    assert {"captions.coco.year", "seed.endpoint.base_url", "train.seeds"} <= keys.keys()
    assert with_overrides(Pipeline(), [f"{s.key}={s.default}" for s in known]) == Pipeline().asking_for("distill")
