import base64
import json

import pytest

from memory_operator.dev.manifests.parse import BrokenManifest, parse_manifests

PROVIDER = """\
apiVersion: omnia.altairalabs.ai/v1alpha1
kind: Provider
metadata:
  name: memory-embeddings
spec:
  role: embedding
  type: local
  model: wordllama
  embedding:
    dimensions: 256
"""
SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: key, namespace: agents}
"""


def test_a_provider_without_a_namespace_is_in_default():
    (document,) = parse_manifests(PROVIDER).documents

    assert (document.kind, document.namespace, document.name, document.line) == (
        "Provider",
        "default",
        "memory-embeddings",
        1,
    )


def test_several_documents_and_lists_are_read():
    as_list = json.dumps({"apiVersion": "v1", "kind": "List", "items": [json.loads(SECRET_JSON)]})
    parsed = parse_manifests(f"---\n{PROVIDER}---\n# nothing\n---\n{as_list}\n")

    assert [(each.kind, each.name) for each in parsed.documents] == [
        ("Provider", "memory-embeddings"),
        ("Secret", "key"),
    ]


SECRET_JSON = '{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"a": "b"}}'


def test_a_json_file_may_be_indented_with_tabs():
    parsed = parse_manifests(SECRET_JSON.replace('"kind"', '\n\t"kind"'), is_json=True)

    assert parsed.documents[0].secret == {"a": "b"}


def test_other_kinds_are_named_and_left_alone():
    parsed = parse_manifests("apiVersion: apps/v1\nkind: Deployment\n---\napiVersion: v1\nkind: ConfigMap\n")

    assert parsed.documents == ()
    assert parsed.unused == ("Deployment", "ConfigMap")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("spec.embedding.dimensions", 10),
        ("spec.embedding", 9),
        ("spec.embedding.missing", 9),
        ("spec.missing.deeper", 5),
        ("metadata.name", 4),
        ("nothing", 1),
    ],
)
def test_a_field_is_found_by_its_line_or_by_that_of_what_it_is_missing_from(path, line):
    (document,) = parse_manifests(PROVIDER).documents

    assert document.line_of(path) == line


def test_dates_and_times_stay_the_text_that_they_are():
    (document,) = parse_manifests(PROVIDER.replace("wordllama", "2024-05-01")).documents

    assert document.manifest["spec"]["model"] == "2024-05-01"


def test_secrets_are_decoded_and_plain_values_go_over_encoded_ones():
    encoded = base64.b64encode(b"from data").decode()
    text = f"{SECRET}data:\n  a: {encoded}\n  b: {encoded}\nstringData:\n  b: from stringData\n"
    (document,) = parse_manifests(text).documents

    assert document.secret == {"a": "from data", "b": "from stringData"}


def test_a_secret_value_that_is_no_text_is_left_out():
    (document,) = parse_manifests(f"{SECRET}data: {{a: /w==}}\n").documents

    assert document.secret == {}


def test_secrets_are_in_no_repr():
    (document,) = parse_manifests(f"{SECRET}stringData: {{a: sk-123}}\n").documents

    assert "sk-123" not in repr(document)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a: b: c\n", 1, "mapping values are not allowed here"),
        ("kind: X\napiVersion: [1\n", 3, "expected ',' or ']'"),
        ("kind: X\n\tapiVersion: v1\n", 2, "cannot start any token"),
        (PROVIDER + "spec: {}\n", 11, "a key is given twice"),
        ("- a\n", 1, "a manifest is a mapping"),
        ("text\n", 1, "a manifest is a mapping"),
        ("metadata: {}\n", 1, "kind is missing"),
        ("\nkind: Provider\n", 2, "apiVersion is missing"),
        (PROVIDER.replace("v1alpha1", "v2"), 1, "there is no such kind; Provider is in"),
        (PROVIDER.replace("kind: Provider", "kind: Providers"), 1, "there is no such kind; Provider is in"),
        (PROVIDER.replace("memory-embeddings", "../../etc/passwd"), 4, "metadata.name must be"),
        (PROVIDER.replace("memory-embeddings", "12"), 4, "metadata.name must be"),
        (PROVIDER.replace("  name:", "  nam:"), 3, "metadata.name must be"),
        (PROVIDER.replace("  name:", "  namespace: a.b\n  name:"), 4, "metadata.namespace must be"),
        (SECRET + "stringData:\n  a: 1\n", 5, "put it in quotes"),
        (SECRET + "data:\n  a: plain text\n", 5, "not base64"),
        (SECRET + "data: text\n", 4, "data must be a mapping"),
        ("kind: X\napiVersion: \x00\n", 2, "character that YAML does not allow"),
        ("kind: X\napiVersion: &a [*a]\n", 1, "something that JSON cannot say"),
        ("kind: X\ndata: !!binary aGk=\n", 1, "something that JSON cannot say"),
        ("[" * 5_000, 1, "nested too deeply"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(text, line, reason):
    with pytest.raises(BrokenManifest, match=reason) as caught:
        parse_manifests(text)

    assert caught.value.line == line


@pytest.mark.parametrize("text", ['{"a": 1,\n}', '{"a": 1, "a": 2}', "[" * 100_000])
def test_broken_json_is_refused(text):
    with pytest.raises(BrokenManifest):
        parse_manifests(text, is_json=True)


@pytest.mark.parametrize("value", ["*sk-123", "!sk-123 x", "&sk-123 [&sk-123 a, *sk-124]", "'sk-123", "{sk-123"])
def test_what_a_broken_file_holds_is_never_repeated(value):
    with pytest.raises(BrokenManifest) as caught:
        parse_manifests(f"{SECRET}stringData:\n  a: {value}\n")

    assert "sk-12" not in str(caught.value)
