"""Output stems: short, unique, and stable between submissions."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp_batch.errors import InputError
from epp_batch.intake.sources import AudioSource
from epp_batch.intake.stems import assign_stems, sanitize_path_part


def assign(*found, previous=()):
    return assign_stems(found, dict(previous))


def file(path, *name, **more):
    parts = path.split("/")
    return AudioSource(path, name or (parts[-1].rsplit(".", 1)[0],), **more)


def test_unique_name_is_kept():
    assert assign(file("/a/call.mp3"), file("/a/sub/other.mp3", "sub", "other")) == ["call", "sub/other"]


def test_equal_names_get_distinguishing_folders():
    assert assign(file("/x/a/call.mp3"), file("/x/b/call.mp3"), file("/x/c.mp3")) == ["a/call", "b/call", "c"]
    assert assign(file("/a/x/call.mp3"), file("/b/x/call.mp3")) == ["a/x/call", "b/x/call"]


def test_equal_names_in_one_folder_keep_their_suffix():
    assert assign(file("/a/call.mp3"), file("/a/call.wav")) == ["call.mp3", "call.wav"]


def test_stems_are_unique_ignoring_case():
    one, other = assign(file("/a/Call.mp3"), file("/b/call.mp3"))
    assert one.casefold() != other.casefold()


def test_equal_url_names_get_their_host():
    urls = ["https://a/x/call.mp3", "https://b/x/call.mp3"]
    assert assign(*(AudioSource(url, ("call",)) for url in urls)) == ["a/x/call", "b/x/call"]


def test_urls_that_differ_only_in_the_query_get_a_hash():
    names = assign(AudioSource("https://h/get?id=1", ("get",)), AudioSource("https://h/get?id=2", ("get",)))
    assert len(set(names)) == 2
    assert all(name.startswith("get-") for name in names)


def test_stem_of_a_manifest_takes_precedence():
    assert assign(file("/a/call.mp3"), file("/b/x.mp3", stem="call")) == ["a/call", "call"]


@pytest.mark.parametrize("stem", ["../x", "/x", "a//b", ".epp-batch/run", "a/.", "x.done", "a\nb", ""])
def test_invalid_stem_of_a_manifest_is_rejected(stem):
    with pytest.raises(InputError, match="cannot be an output name"):
        assign(file("/a/call.mp3", stem=stem))


def test_duplicate_stem_of_manifests_is_rejected():
    with pytest.raises(InputError, match=r"'Call' of /a/x.mp3 and of /a/y.mp3"):
        assign(file("/a/x.mp3", stem="call"), file("/a/y.mp3", stem="Call"))


def test_previous_stem_is_kept_when_sources_are_added():
    first = file("/a/call.mp3")
    (name,) = assign(first)
    assert assign(file("/b/call.mp3"), first, previous={first.location: name}) == ["b/call", "call"]


def test_stem_that_collides_with_a_sidecar_is_changed():
    assert assign(file("/a/call.done.mp3"), file("/a/call.mp3")) == ["call.done_", "call"]


def test_path_parts_are_shortened_and_sanitized():
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
def test_stems_are_unique_and_independent_of_order(sources):
    found = [file(source) for source in sources]
    names = assign(*found)
    assert len({name.casefold() for name in names}) == len(found)
    assert not any(first.endswith((".done", ".failed", ".summary")) for first in names)
    for other in itertools.islice(itertools.permutations(range(len(found))), 5):
        assert assign(*(found[index] for index in other)) == [names[index] for index in other]


@given(paths, paths)
def test_added_sources_never_change_previous_stems(sources, more):
    first = [file(source) for source in sources]
    names = dict(zip(sources, assign(*first), strict=True))
    all_sources = [file(source) for source in dict.fromkeys((*more, *sources))]
    again = dict(zip((source.location for source in all_sources), assign(*all_sources, previous=names), strict=True))
    assert {source: again[source] for source in sources} == names
