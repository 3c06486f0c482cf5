import pytest
import yaml

from memory_operator.contract.resource import parse_provider
from memory_operator.dev.corpus import MAX_CHARS, MIN_CHARS, SampleText, sample_texts
from memory_operator.dev.sample import write_sample_provider
from memory_operator.errors import ConfigurationError


@pytest.fixture(scope="module")
def texts() -> list[SampleText]:
    return list(sample_texts())


def test_there_are_between_one_and_three_thousand_sample_texts_of_a_sensible_length(texts):
    assert 1_000 <= len(texts) <= 3_000
    assert all(MIN_CHARS <= len(each.text) <= MAX_CHARS for each in texts)


def test_sample_texts_are_the_same_each_time_and_none_comes_twice(texts):
    assert texts == list(sample_texts())
    assert len({each.source for each in texts}) == len({each.text for each in texts}) == len(texts)


def test_sample_texts_come_from_all_over_the_library(texts):
    by_source = {each.source: each for each in texts}

    assert by_source["python:textwrap.wrap"].tags == ("python", "library", "textwrap", "function")
    assert by_source["python:json.dumps"].text.startswith("json.dumps: Serialize")
    assert by_source["python:help/lambda"].tags == ("python", "language", "lambda")


def test_fewer_sample_texts_are_the_first_of_all(texts):
    assert list(sample_texts(10)) == texts[:10]


def test_the_sample_provider_is_valid_and_written_into_an_empty_folder(tmp_path):
    path = write_sample_provider(tmp_path / "providers")

    found = parse_provider(yaml.safe_load(path.read_text()))
    assert found.problems == ()
    assert (str(found.ref), found.spec.type, found.spec.embedding.dimensions) == (
        "default/memory-embeddings",
        "local",
        256,
    )


@pytest.mark.parametrize("name", ["mine.yaml", "mine.yml", "mine.json"])
def test_a_folder_with_a_manifest_gets_no_sample(tmp_path, name):
    (tmp_path / name).write_text("")

    assert write_sample_provider(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match=str(tmp_path / "file")):
        write_sample_provider(tmp_path / "file" / "providers")
