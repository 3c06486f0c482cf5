"""A folder of manifests behaves as an API server does."""

import os
import stat
from datetime import UTC, datetime

import pytest

from fixtures.manifests import A, B, pass_absence, provider, ref_names, secret
from fixtures.waiting import until
from memory_operator.contract.status import ProviderStatus
from memory_operator.dev.manifests.scan import ABSENCE_SECONDS
from memory_operator.dev.manifests.source import FolderSource
from memory_operator.engine.ports.sources import ProviderSource, SecretReader
from memory_operator.errors import ConfigurationError


async def test_it_is_a_provider_source_with_a_secret_reader(source, folder):
    as_source: ProviderSource = source
    as_reader: SecretReader = source.read_secret
    (folder / "a.yaml").write_text(provider() + "---\n" + secret("x"))

    assert as_source.serves("any")
    assert [each.ref for each in (await as_source.list()).whole()] == [A]
    assert await as_reader("default", "key") == {"api-key": "x"}


async def test_a_manifest_gets_what_an_api_server_adds(source, folder):
    before = datetime.now(UTC).replace(microsecond=0)
    (folder / "a.yaml").write_text(provider())

    found = await source.get(A)

    assert found is not None
    assert (found.generation, found.problems) == (1, ())
    assert len(found.uid) == 36
    assert before <= found.created_at <= datetime.now(UTC)
    assert found.spec is not None
    assert found.spec.embedding is not None
    assert found.spec.embedding.dimensions == 256


async def test_an_unknown_provider_is_none_and_an_empty_folder_is_an_empty_list(source):
    assert await source.get(A) is None
    assert (await source.list()).whole() == []


async def test_an_edited_spec_has_the_next_generation_and_the_same_uid(source, folder):
    (folder / "a.yaml").write_text(provider())
    before = await source.get(A)
    (folder / "a.yaml").write_text(provider(dimensions=128))
    after = await source.get(A)

    assert (after.uid, after.created_at, after.generation) == (before.uid, before.created_at, 2)
    assert after.spec.embedding.dimensions == 128


async def test_a_new_comment_or_label_is_no_new_generation(source, folder):
    (folder / "a.yaml").write_text(provider())
    await source.get(A)
    (folder / "a.yaml").write_text("# hello\n" + provider().replace("metadata:\n", "metadata:\n  labels: {x: y}\n"))

    assert (await source.get(A)).generation == 1


async def test_an_annotation_that_stands_in_for_a_field_is_a_new_generation(source, folder):
    (folder / "a.yaml").write_text(provider())
    await source.get(A)
    shadow = "metadata:\n  annotations: {memory-operator/dimensionChange: Shadow}\n"
    (folder / "a.yaml").write_text(provider().replace("metadata:\n", shadow))
    after = await source.get(A)

    assert (after.generation, after.spec.embedding.dimension_change) == (2, "Shadow")


async def test_identities_survive_a_restart(source, folder, state):
    (folder / "a.yaml").write_text(provider())
    await source.get(A)
    (folder / "a.yaml").write_text(provider(dimensions=128))
    before = await source.get(A)

    after = await FolderSource(folder, state=state).get(A)

    assert (after.uid, after.generation, after.created_at) == (before.uid, 2, before.created_at)


async def test_an_edit_made_while_nobody_ran_is_a_new_generation(source, folder, state):
    (folder / "a.yaml").write_text(provider())
    before = await source.get(A)
    (folder / "a.yaml").write_text(provider(dimensions=64))

    after = await FolderSource(folder, state=state).get(A)

    assert (after.uid, after.generation) == (before.uid, 2)


async def test_what_is_kept_is_for_its_owner_alone(source, folder, state):
    (folder / "a.yaml").write_text(provider())
    await source.list()

    assert stat.S_IMODE((state / "providers-state.json").stat().st_mode) == 0o600


async def test_a_state_that_cannot_be_read_stops_the_start(folder, state):
    (state / "providers-state.json").write_text("{")

    with pytest.raises(ConfigurationError, match=r"providers-state\.json"):
        FolderSource(folder, state=state)


async def test_without_a_state_nothing_is_written(folder):
    (folder / "a.yaml").write_text(provider())
    source = FolderSource(folder)
    found = await source.get(A)
    await source.publish(A, found.uid, ProviderStatus(), ())

    assert os.listdir(folder) == ["a.yaml"]


async def test_a_saved_file_is_told_of_and_so_is_its_edit(watching, folder):
    (folder / "a.yaml").write_text(provider())
    await until(lambda: watching.changes == [A], "the Provider is told")
    (folder / "a.yaml").write_text(provider(dimensions=64))
    await until(lambda: watching.changes == [A, A], "the edit is told")

    assert watching.deletions == 0


async def test_a_file_absent_for_a_second_is_a_deletion_and_its_return_is_a_new_provider(watching, folder, steered):
    (folder / "a.yaml").write_text(provider())
    before = await watching.source.get(A)
    (folder / "a.yaml").unlink()
    await pass_absence(watching.source, steered)
    await until(lambda: watching.deletions == 1, "the deletion is told")
    assert await watching.source.get(A) is None

    (folder / "a.yaml").write_text(provider())
    after = await watching.source.get(A)

    assert after.uid != before.uid
    assert after.generation == 1


async def test_a_file_that_an_editor_replaces_is_never_gone(watching, folder, steered):
    path = folder / "a.yaml"
    path.write_text(provider())
    before = await watching.source.get(A)
    await until(lambda: watching.changes == [A], "the Provider is told")

    for _ in range(3):
        steered.stop()
        path.unlink()
        await watching.source.list()
        steered.ahead += ABSENCE_SECONDS * 0.9  # an editor's pause between the two
        await watching.source.list()
        (folder / ".a.yaml.swp").write_text(provider())
        (folder / ".a.yaml.swp").rename(path)
        steered.resume()
        await watching.source.get(A)

    assert (await watching.source.get(A)) == before
    assert (watching.changes, watching.deletions) == ([A], 0)


async def test_a_deletion_while_nobody_ran_is_noticed(source, folder, state, steered):
    (folder / "a.yaml").write_text(provider())
    await source.list()
    (folder / "a.yaml").unlink()

    again = FolderSource(folder, state=state, clock=steered.clock)
    await pass_absence(again, steered)

    assert await again.get(A) is None


async def test_a_provider_that_moves_to_another_file_stays_the_same(source, folder):
    (folder / "a.yaml").write_text(provider())
    before = await source.get(A)
    (folder / "a.yaml").rename(folder / "z.yaml")

    assert await source.get(A) == before


async def test_a_provider_taken_out_of_a_file_of_several_is_deleted(watching, folder, steered):
    (folder / "all.yaml").write_text(provider("a") + "---\n" + provider("b"))
    await until(lambda: watching.changes == [A, B], "both Providers are told")
    (folder / "all.yaml").write_text(provider("b"))
    await pass_absence(watching.source, steered)
    await until(lambda: watching.deletions, "the deletion is told")

    assert await ref_names(watching.source) == ["default/b"]
