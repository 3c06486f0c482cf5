"""`memory eval` against a real API: what it loads is found, measured, and gone afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from fixtures.api import HOST, Api
from fixtures.memories import Memories, config
from fixtures.waiting import ends

TEXTS = {
    "d1": "Die Sicherungen der Datenbank laufen jede Nacht um zwei Uhr.",
    "d2": "The key of the office is with Mrs Miller on the third floor.",
    "d3": "搬家以后，与供应商的所有合同都已取消。",
}
QUESTIONS = {"q1": "Wann läuft die Sicherung?", "q2": "Where is the office key?", "q3": "哪些合同取消了？"}


def _written(folder: Path) -> Path:
    for name, texts in (("corpus", TEXTS), ("queries", QUESTIONS)):
        lines = [json.dumps({"id": key, "text": text}) for key, text in texts.items()]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    (folder / "qrels.tsv").write_text("".join(f"q{number}\td{number}\t1\n" for number in (1, 2, 3)))
    return folder


async def _memory(api: Api, *arguments: str) -> dict[str, Any]:
    """What `memory ARGUMENTS… --json` prints."""
    program = "from memory_operator.client.main import main; main()"
    command = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        *arguments,
        "--json",
        env={**os.environ, "MEMORY_API": f"http://{HOST}:{api.port}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    shown, errors = await ends(command.communicate(), "the end of the evaluation")
    assert command.returncode == 0, errors.decode()
    found: dict[str, Any] = json.loads(shown)
    return found


async def test_a_judged_set_is_loaded_measured_and_removed(memories: Memories, api: Api, tmp_path: Path) -> None:
    await memories.space(config())
    [found] = (await _memory(api, "eval", "--judged", str(_written(tmp_path))))["sets"]
    means = {one["way"]: one["measures"]["nDCG@10"]["mean"] for one in found["ways"]}
    assert set(means) == {"default", "full-text alone", "semantic alone"}
    assert means["full-text alone"] == 1.0
    assert found["remarks"] == []
    stats = (await api.get("/v1/stats")).json()
    assert (stats["memories"], stats["projects"]) == (0, [])
    assert (await api.get("/v1/projects")).json() == {"projects": []}


async def test_known_items_of_real_memories_are_found_again(memories: Memories, api: Api) -> None:
    for text in TEXTS.values():
        await memories.add(text)
    [found] = (await _memory(api, "eval", "--self", "3"))["sets"]
    assert (found["questions"], found["ways"][0]["measures"]["R@10"]["mean"]) == (3, 1.0)
