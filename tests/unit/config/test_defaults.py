"""What is added to a configuration that leaves something out."""

from __future__ import annotations

from tests.unit.config.conftest import LoadPlan, LoadProblems, plugin_names


def test_an_omitted_profile_has_all_filters_in_file_order(load_plan: LoadPlan) -> None:
    profile = load_plan("""
plugins:
- {type: prefill-filter}
- {type: queue-scorer}
- {type: decode-filter}
- {type: random-picker}
""").profiles["default"]
    assert plugin_names(profile.filters) == ["prefill-filter", "decode-filter"]
    assert [(name, weight) for name, weight, _ in profile.scorers] == [("queue-scorer", 1.0)]
    assert profile.picker[0] == "random-picker"


def test_a_profile_without_picker_is_a_problem_if_several_are_declared(load_problems: LoadProblems) -> None:
    assert load_problems("""
plugins: [{type: queue-scorer}, {type: random-picker}, {type: max-score-picker}]
schedulingProfiles: [{name: default, plugins: [{pluginRef: queue-scorer}]}]
""") == [
        "schedulingProfiles[0]: this profile has no picker and several are declared (random-picker, max-score-picker): "
        "add a pluginRef to one of them (line 5)"
    ]


def test_profile_handlers_are_checked_against_the_profiles(load_plan: LoadPlan, load_problems: LoadProblems) -> None:
    two = "schedulingProfiles: [{name: prefill}, {name: decode}]\n"
    assert load_problems(two) == ["plugins: no profile handler is declared for the 2 scheduling profiles"]
    assert load_problems(two + "plugins: [{type: single-profile-handler}]") == [
        "schedulingProfiles: 'single-profile-handler' takes exactly one scheduling profile, not 2 (prefill, decode) "
        "(line 3)"
    ]
    assert load_problems("plugins: [{type: single-profile-handler}, {type: two-profile-handler}]") == [
        "plugins[1]: second profile handler: only one may be declared, and plugins[0] is one (line 3)"
    ]
    assert list(load_plan(two + "plugins: [{type: two-profile-handler}]").profiles) == ["prefill", "decode"]
