"""BibTeX as people write it."""

import pytest

from claimwise.lab.bibliography import parse_bibliography, read_bibliography

TEXT = """% a comment
@inproceedings{fgsm,
  title  = {Explaining and {Harnessing} {A}dversarial
            Examples},
  author = {Goodfellow, Ian J. and Shlens, Jonathon and Christian Szegedy},
  booktitle = "International Conference, on Learning Representations",
  year = 2015,
  url    = {https://arxiv.org/abs/1412.6572},
  topic  = {adversarial},
}
@Article{han, journal = {A {B} C}, year = {1998}, note={x = {y}, z = 3}, title={On a = {b}}}
@misc{bare,
}
"""


def test_entries_are_read_in_order_with_braces_quotes_and_bare_numbers():
    entries = parse_bibliography(TEXT)
    assert list(entries) == ["fgsm", "han", "bare"]
    fgsm = entries["fgsm"]
    assert fgsm.kind == "inproceedings"
    assert fgsm.title == "Explaining and Harnessing Adversarial Examples"
    assert fgsm.authors == "Ian J. Goodfellow, Jonathon Shlens, Christian Szegedy"
    assert fgsm.venue == "International Conference, on Learning Representations"
    assert (fgsm.year, fgsm.topic, fgsm.url) == (2015, "adversarial", "https://arxiv.org/abs/1412.6572")
    han = entries["han"]
    assert (han.kind, han.venue, han.year, han.topic) == ("article", "A B C", 1998, "other")
    assert han.title == "On a = b"
    assert set(han.fields) == {"journal", "year", "note", "title"}


def test_an_entry_without_fields_still_answers():
    bare = parse_bibliography(TEXT)["bare"]
    assert (bare.title, bare.authors, bare.venue, bare.year, bare.url) == ("bare", "", "", 0, "")


def test_the_source_is_the_entry_as_it_stands():
    entries = parse_bibliography(TEXT)
    assert entries["han"].source == TEXT[TEXT.index("@Article") : TEXT.index("@misc")].strip()
    for key, entry in entries.items():
        assert parse_bibliography(entry.source)[key] == entry


@pytest.mark.parametrize("year", ["{to appear}", "{}", '"n.d."'])
def test_a_year_that_is_none_is_unknown(year):
    assert parse_bibliography(f"@misc{{a, year = {year}}}")["a"].year == 0


def test_a_year_in_words_is_found():
    assert parse_bibliography("@misc{a, year = {March 1998}}")["a"].year == 1998


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("@misc{a, title = {open", "list: entry 'a'.*unbalanced"),
        ("@misc{a, title = {open}\n@misc{b, title = {x}}", "list: entry 'a'.*unbalanced"),
        ('@misc{a, title = "open}', "list: entry 'a'"),
        ("@misc{a, title={x}}\n@misc{a, title={y}}", "list: the key 'a' stands twice"),
    ],
)
def test_a_broken_bibliography_says_where(text, said):
    with pytest.raises(ValueError, match=said):
        parse_bibliography(text, name="list")


def test_a_missing_file_is_empty(tmp_path):
    assert read_bibliography(tmp_path / "none.bib") == {}
    (tmp_path / "some.bib").write_text("@misc{a, title={Ä}}", "utf-8")
    assert read_bibliography(tmp_path / "some.bib")["a"].title == "Ä"
