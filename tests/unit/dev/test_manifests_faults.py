"""A folder of manifests: broken files, Secrets and what is written beside them."""

import asyncio
import json

import pytest

from fixtures.manifests import STAYS, A, B, errors, pass_absence, provider, secret
from fixtures.waiting import until
from memory_operator.contract.status import EmbeddingStatus, Phase, ProviderStatus
from memory_operator.dev.manifests.source import FolderSource
from memory_operator.engine.ports.sources import ProviderEvent
from memory_operator.errors import SecretMissing, SourceUnavailable


async def test_a_file_that_is_being_written_is_not_read_half(watching, folder, steered):
    (folder / "all.yaml").write_text(provider("a") + "---\n" + provider("b"))
    await until(lambda: watching.changes == [A, B], "both Providers are told")
    before = (await watching.source.list()).whole()

    text = provider("a") + "---\n" + provider("b") + "---\n" + provider("c")
    steered.stop()
    with (folder / "all.yaml").open("w") as file:
        for start in range(0, len(text), 200):
            file.write(text[start : start + 200])
            file.flush()
            looks = steered.looks
            await until(lambda looks=looks: steered.looks > looks + 1, "the folder has been looked at")
    steered.resume()
    await until(lambda: len(watching.changes) == 3, "the third Provider is told")

    assert (await watching.source.list()).whole()[:2] == before
    assert watching.deletions == 0


async def test_a_broken_file_changes_nothing_and_is_reported_with_its_line(watching, folder, caplog, steered):
    (folder / "a.yaml").write_text(provider())
    before = await watching.source.get(A)
    (folder / "a.yaml").write_text(provider() + "  tokens: [1\n")
    await until(lambda: errors(caplog), "the broken file is reported")
    await pass_absence(watching.source, steered)

    assert await watching.source.get(A) == before
    assert [error.startswith(f"{folder}/a.yaml:13: ") for error in errors(caplog)] == [True]

    (folder / "a.yaml").write_text(provider(dimensions=64))
    assert (await watching.source.get(A)).generation == 2
    assert len(errors(caplog)) == 1


async def test_the_last_good_version_stays_in_force_across_a_restart(source, folder, state, steered):
    (folder / "a.yaml").write_text(provider())
    before = await source.get(A)
    (folder / "a.yaml").write_text("{")

    again = FolderSource(folder, state=state, clock=steered.clock)
    await pass_absence(again, steered)

    assert await again.get(A) == before


async def test_a_spec_that_is_not_valid_is_a_problem_with_its_line(source, folder):
    (folder / "a.yaml").write_text(provider(dimensions="many"))
    found = await source.get(A)

    assert found.spec is None
    assert len(found.problems) == 1
    assert found.problems[0].startswith("spec.embedding.dimensions: ")
    assert found.problems[0].endswith("(a.yaml:11)")


async def test_of_two_definitions_the_first_file_counts_and_the_other_is_reported(source, folder, caplog):
    (folder / "b.yaml").write_text("---\n" + provider(dimensions=64))
    (folder / "a.yaml").write_text(provider(dimensions=128))

    assert (await source.get(A)).spec.embedding.dimensions == 128
    found = f"{folder}/b.yaml:2: Provider default/a is defined in a.yaml:1 already; that one counts"
    assert errors(caplog) == [found]


async def test_a_file_that_cannot_be_read_is_as_a_broken_one(source, folder, caplog):
    (folder / "a.yaml").write_text(provider())
    before = await source.get(A)
    (folder / "a.yaml").unlink()
    (folder / "a.yaml").symlink_to("a.yaml")  # also root cannot read that

    assert await source.get(A) == before
    assert errors(caplog) == [f"{folder}/a.yaml: cannot be read: Too many levels of symbolic links{STAYS}"]


async def test_a_link_to_nowhere_and_a_folder_with_a_fitting_name_are_no_files(source, folder, caplog):
    (folder / "b.yaml").mkdir()
    (folder / "c.yaml").symlink_to("nowhere.yaml")

    assert (await source.list()).whole() == []
    assert errors(caplog) == []


async def test_a_mounted_config_map_can_be_the_folder(source, folder):
    for version in ("v1", "v2"):
        (folder / f"..{version}").mkdir()
        dimensions = 64 if version == "v1" else 128
        (folder / f"..{version}" / "a.yaml").write_text(provider(dimensions=dimensions))
    (folder / "..data").symlink_to("..v1")
    (folder / "a.yaml").symlink_to("..data/a.yaml")
    before = await source.get(A)

    (folder / "..new").symlink_to("..v2")
    (folder / "..new").rename(folder / "..data")
    after = await source.get(A)

    assert (before.spec.embedding.dimensions, after.spec.embedding.dimensions) == (64, 128)
    assert after.uid == before.uid


async def test_a_folder_that_is_gone_is_unavailable_and_deletes_nothing(watching, folder, caplog, steered):
    (folder / "a.yaml").write_text(provider())
    before = await watching.source.get(A)
    folder.rename(folder.with_name("away"))
    await until(lambda: "cannot be read" in caplog.text, "the log says that the folder cannot be read")
    with pytest.raises(SourceUnavailable, match="No such file or directory"):
        await watching.source.list()
    await pass_absence(watching.source, steered)

    folder.with_name("away").rename(folder)

    assert await watching.source.get(A) == before
    assert watching.deletions == 0


async def test_a_secret_is_read_afresh_each_time(source, folder):
    (folder / "s.yaml").write_text(secret("one"))
    assert await source.read_secret("default", "key") == {"api-key": "one"}
    (folder / "s.yaml").write_text(secret("two"))
    assert await source.read_secret("default", "key") == {"api-key": "two"}


async def test_a_changed_secret_is_a_change_of_the_providers_beside_it(watching, folder):
    (folder / "s.yaml").write_text(secret("one"))
    (folder / "a.yaml").write_text(provider())
    (folder / "b.yaml").write_text(provider("b", namespace="elsewhere"))
    await until(lambda: len(watching.changes) == 2, "the second change is told")
    watching.changes.clear()

    (folder / "s.yaml").write_text(secret("two"))
    await until(lambda: watching.changes, "a change is told")

    assert watching.changes == [A]


async def test_a_secret_that_is_nowhere_is_missing(source):
    with pytest.raises(SecretMissing, match="default/key does not exist"):
        await source.read_secret("default", "key")


async def test_a_secret_that_may_be_in_a_broken_file_is_not_called_missing(source, folder):
    (folder / "s.yaml").write_text(secret("one") + "  a: [")

    with pytest.raises(SourceUnavailable, match=r"s\.yaml"):
        await source.read_secret("default", "key")


async def test_secrets_are_written_nowhere(source, folder, state):
    (folder / "s.yaml").write_text(provider() + "---\n" + secret("sk-123"))
    await source.list()

    assert "sk-123" not in "".join(path.read_text() for path in state.rglob("*") if path.is_file())


async def test_the_status_is_there_to_be_read_and_goes_with_its_provider(source, folder, state, caplog):
    caplog.set_level("INFO")
    (folder / "a.yaml").write_text(provider())
    found = await source.get(A)
    status = ProviderStatus(phase=Phase.HELD, observed_generation=1)
    await source.publish(A, found.uid, status, [ProviderEvent("Warning", "ConsentRequired", "say yes")])

    shown = json.loads((state / "status" / "default.a.json").read_text())
    assert (shown["metadata"]["uid"], shown["status"]["phase"]) == (found.uid, "Held")
    assert ("WARNING", "default/a: ConsentRequired: say yes") in [(r.levelname, r.getMessage()) for r in caplog.records]

    (folder / "a.yaml").unlink()
    assert await source.get(A) is None
    assert list((state / "status").iterdir()) == []


async def test_a_switch_and_each_new_text_about_a_spec_are_log_lines_that_name_their_provider(source, folder, caplog):
    caplog.set_level("INFO")
    (folder / "a.yaml").write_text(provider())
    found = await source.get(A)
    switched = ProviderEvent("Normal", "SpaceSwitched", "b has taken the place of a")
    invalid = [ProviderEvent("Warning", "InvalidSpec", f"spec.{field}: no such field") for field in ("modle", "typ")]
    for generation, event in enumerate([switched, *invalid], start=1):
        status = ProviderStatus(phase=Phase.READY, observed_generation=generation)
        await source.publish(A, found.uid, status, [event])

    assert [(r.levelname, r.getMessage()) for r in caplog.records if "default/a" in r.getMessage()] == [
        ("INFO", "default/a: SpaceSwitched: b has taken the place of a"),
        ("WARNING", "default/a: InvalidSpec: spec.modle: no such field"),
        ("WARNING", "default/a: InvalidSpec: spec.typ: no such field"),
    ]


async def test_an_edit_is_warned_of_with_the_figures_of_what_is_stored(source, folder, state, steered, caplog):
    (folder / "a.yaml").write_text(provider())
    found = await source.get(A)
    figures = EmbeddingStatus(applied_dimensions=256, vectors=7, chunks=7, observed_generation=1)
    await source.publish(A, found.uid, ProviderStatus(embedding=figures), ())
    assert "WARNING" not in [record.levelname for record in caplog.records]

    (folder / "a.yaml").write_text(provider(dimensions=128))
    assert (await FolderSource(folder, state=state, clock=steered.clock).get(A)).generation == 2
    warned = [record.getMessage() for record in caplog.records]
    assert (
        "default/a: spec.embedding.dimensions: 256 to 128 discards 7 vectors; held until one-shot consent names 128"
        in (warned)
    )
    await source.list()  # the process that wrote the status warns of it as well, and no process twice
    await source.list()
    assert [record.getMessage() for record in caplog.records] == 2 * warned


async def test_a_loopback_address_is_no_reason_to_warn_on_this_machine(source, folder, caplog):
    (folder / "a.yaml").write_text(provider().replace("type: local", "type: ollama\n  baseURL: http://127.0.0.1:11434"))
    await source.get(A)
    assert caplog.text == ""


async def test_a_status_of_an_earlier_provider_of_the_same_name_is_dropped(source, folder, state, caplog):
    (folder / "a.yaml").write_text(provider())
    await source.get(A)
    await source.publish(A, "of another", ProviderStatus(), [ProviderEvent("Warning", "Gone", "hello")])

    assert not (state / "status").exists()
    assert "hello" not in caplog.text


async def test_an_unchanged_status_is_not_written_again(source, folder, state):
    (folder / "a.yaml").write_text(provider())
    found = await source.get(A)
    await source.publish(A, found.uid, ProviderStatus(phase=Phase.READY), ())
    before = (state / "status" / "default.a.json").stat().st_ino
    await source.publish(A, found.uid, ProviderStatus(phase=Phase.READY), ())

    assert (state / "status" / "default.a.json").stat().st_ino == before


async def test_threads_with_loops_of_their_own_can_ask_at_the_same_time(source, folder):
    (folder / "a.yaml").write_text(provider() + "---\n" + secret("x"))

    def in_a_thread() -> int:
        async def ask() -> int:
            for _ in range(20):
                await source.read_secret("default", "key")
            return len((await source.list()).whole())

        return asyncio.run(ask())

    assert await asyncio.gather(*(asyncio.to_thread(in_a_thread) for _ in range(4))) == [1] * 4


@pytest.mark.parametrize(
    "line", ["type: helm.sh/release.v1", "metadata: {name: key, labels: {app.kubernetes.io/part-of: memory-operator}}"]
)
async def test_a_secret_that_is_no_vendors_key_is_not_given_to_a_provider(source, folder, line):
    text = secret("x") if line.startswith("type") else secret("x").replace("metadata: {name: key}\n", "")
    (folder / "s.yaml").write_text(f"{text}{line}\n")
    with pytest.raises(SecretMissing, match="is for no Provider"):
        await source.read_secret("default", "key")


@pytest.mark.parametrize("content", ["", "\n", "# nothing is left\n", "---\n"])
async def test_an_emptied_file_is_a_broken_file_and_deletes_nothing(watching, folder, steered, content, caplog):
    (folder / "a.yaml").write_text(provider())
    before = await watching.source.get(A)
    (folder / "a.yaml").write_text(content)
    await until(lambda: errors(caplog), "the emptied file is reported")
    await pass_absence(watching.source, steered)

    said = "a.yaml:1: holds no manifest; delete the file to delete what it defined"
    assert errors(caplog) == [f"{folder}/{said}{STAYS}"]
    assert await watching.source.get(A) == before
    assert watching.deletions == 0
