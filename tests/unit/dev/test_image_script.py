"""What the image of the bundled database shares with `dev` is one file, which needs nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SHARED = "memory_operator/dev/postgres/initdb.py"


def test_the_images_script_starts_with_the_shared_file_alone(tmp_path: Path) -> None:
    (tmp_path / SHARED).parent.mkdir(parents=True)
    shutil.copy(ROOT / "operator" / SHARED, tmp_path / SHARED)
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": str(tmp_path),
        "PGDATA": str(tmp_path / "data"),
        "PGHOST": str(tmp_path),
        "PGUSER": "memory",
        "PGDATABASE": "memory",
        "POSTGRES_PASSWORD_FILE": str(tmp_path / "password"),
    }

    command = [sys.executable, "-S", ROOT / "operator/image/memory-postgres"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    assert done.stderr == f"memory-postgres: there is no password in {tmp_path / 'password'}\n"
