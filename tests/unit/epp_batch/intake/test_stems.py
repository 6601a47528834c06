"""Output names: short, apart, and the same next time."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp_batch.errors import InputError
from epp_batch.intake.sources import AudioSource
from epp_batch.intake.stems import assign_stems, sanitize_path_part


def named(*found, before=()):
    return assign_stems(found, dict(before))


def file(path, *name, **more):
    parts = path.split("/")
    return AudioSource(path, name or (parts[-1].rsplit(".", 1)[0],), **more)


def test_a_name_is_kept_short():
    assert named(file("/a/call.mp3"), file("/a/sub/other.mp3", "sub", "other")) == ["call", "sub/other"]


def test_equal_names_get_the_folders_that_tell_them_apart():
    assert named(file("/x/a/call.mp3"), file("/x/b/call.mp3"), file("/x/c.mp3")) == ["a/call", "b/call", "c"]
    assert named(file("/a/x/call.mp3"), file("/b/x/call.mp3")) == ["a/x/call", "b/x/call"]


def test_equal_names_in_one_folder_keep_their_suffixes():
    assert named(file("/a/call.mp3"), file("/a/call.wav")) == ["call.mp3", "call.wav"]


def test_case_does_not_tell_names_apart():
    one, other = named(file("/a/Call.mp3"), file("/b/call.mp3"))
    assert one.casefold() != other.casefold()


def test_urls_of_several_hosts():
    urls = ["https://a/x/call.mp3", "https://b/x/call.mp3"]
    assert named(*(AudioSource(url, ("call",)) for url in urls)) == ["a/x/call", "b/x/call"]


def test_urls_that_differ_in_the_query_only():
    names = named(AudioSource("https://h/get?id=1", ("get",)), AudioSource("https://h/get?id=2", ("get",)))
    assert len(set(names)) == 2
    assert all(name.startswith("get-") for name in names)


def test_what_a_manifest_asks_for_comes_first():
    assert named(file("/a/call.mp3"), file("/b/x.mp3", stem="call")) == ["a/call", "call"]


@pytest.mark.parametrize("stem", ["../x", "/x", "a//b", ".epp-batch/run", "a/.", "x.done", "a\nb", ""])
def test_what_a_manifest_must_not_ask_for(stem):
    with pytest.raises(InputError, match="cannot be an output name"):
        named(file("/a/call.mp3", stem=stem))


def test_a_manifest_may_not_give_one_name_twice():
    with pytest.raises(InputError, match=r"'Call' of /a/x.mp3 and of /a/y.mp3"):
        named(file("/a/x.mp3", stem="call"), file("/a/y.mp3", stem="Call"))


def test_a_name_stays_when_others_come_later():
    first = file("/a/call.mp3")
    (name,) = named(first)
    assert named(file("/b/call.mp3"), first, before={first.source: name}) == ["b/call", "call"]


def test_what_would_lie_on_a_sidecar_is_renamed():
    assert named(file("/a/call.done.mp3"), file("/a/call.mp3")) == ["call.done_", "call"]


def test_long_and_strange_parts():
    assert sanitize_path_part("a\tb\\c") == "a_b_c"
    assert sanitize_path_part("..") == "_"
    assert len(sanitize_path_part("ä" * 300).encode()) <= 180
    assert sanitize_path_part("ä" * 300) != sanitize_path_part("ä" * 301)


paths = st.lists(
    st.builds(
        lambda folders, name, suffix: "/" + "/".join((*folders, name + suffix)),
        st.lists(st.sampled_from(["a", "b", "A"]), max_size=3),
        st.sampled_from(["x", "X", "x.done", "y", "a-x"]),
        st.sampled_from([".mp3", ".wav", ""]),
    ),
    unique=True,
    max_size=8,
)


@given(paths)
def test_no_two_recordings_share_a_name_and_the_order_does_not_matter(sources):
    found = [file(source) for source in sources]
    names = named(*found)
    assert len({name.casefold() for name in names}) == len(found)
    assert not any(first.endswith((".done", ".failed", ".summary")) for first in names)
    for other in itertools.islice(itertools.permutations(range(len(found))), 5):
        assert named(*(found[index] for index in other)) == [names[index] for index in other]


@given(paths, paths)
def test_nobody_loses_a_name_to_a_newcomer(sources, more):
    first = [file(source) for source in sources]
    names = dict(zip(sources, named(*first), strict=True))
    everyone = [file(source) for source in dict.fromkeys((*more, *sources))]
    again = dict(zip((one.source for one in everyone), named(*everyone, before=names), strict=True))
    assert {source: again[source] for source in sources} == names
