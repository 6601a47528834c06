"""Plugin classes: parameters, type names, state."""

from __future__ import annotations

import msgspec
import pytest

from epp.api import Plugin, SchedulerProfile
from scorers.pickers.random import RandomPicker


class BasePlugin(Plugin, type="base"):
    max_size: int = 1

    def __post_init__(self) -> None:
        self.calls: list[int] = []


class DerivedPlugin(BasePlugin):
    pass


class OtherPlugin(BasePlugin, type="other"):
    pass


def test_parameters_are_named_in_camel_case_and_unknown_ones_are_errors() -> None:
    assert msgspec.convert({"maxSize": 3}, BasePlugin).max_size == 3
    with pytest.raises(msgspec.ValidationError, match="unknown field `max_size`"):
        msgspec.convert({"max_size": 3}, BasePlugin)


def test_a_subclass_has_the_type_of_its_base_unless_it_names_one() -> None:
    assert (BasePlugin.type, DerivedPlugin.type, OtherPlugin.type) == ("base", "base", "other")


def test_state_and_keys_belong_to_the_instance() -> None:
    one, two = BasePlugin(), BasePlugin()
    one.calls.append(1)
    one.consumes = (1,)  # type: ignore[assignment]
    assert (two.calls, two.consumes) == ([], ())
    assert one != BasePlugin(max_size=1), "plugins are compared by identity"
    assert len({one, two}) == 2


def test_a_profile_is_not_changed_by_the_lists_it_was_made_of() -> None:
    scorers = []
    profile = SchedulerProfile("default", scorers=scorers, picker=("random", RandomPicker()))
    scorers.append(("late", 1.0, None))
    assert profile.scorers == ()
    assert repr(profile) == "SchedulerProfile('default')"


def test_a_plugin_class_cannot_define_its_constructor() -> None:
    with pytest.raises(TypeError, match=r"class Constructed defines __init__, .* use __post_init__"):

        class Constructed(Plugin):
            def __init__(self) -> None: ...
