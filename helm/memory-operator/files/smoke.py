"""`helm test`: stores a memory through the Service, finds it, erases it; exits 1 with the reason when it cannot."""

import json
import subprocess
import sys
import time
import uuid

SERVER, TOKEN_FILE = sys.argv[1:]
DEADLINE = time.monotonic() + 120
COMMAND = ["memory", "--server", SERVER, "--token-file", TOKEN_FILE, "--json"]


def memory(*words):
    """What the `memory` command answers, tried again until the deadline."""
    while True:
        done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0:
            return json.loads(done.stdout) if done.stdout.strip() else {}
        print(f"memory {words[0]} exits {done.returncode}: {done.stderr.strip()}", flush=True)
        if time.monotonic() > DEADLINE:
            sys.exit(1)
        time.sleep(2)


word = f"word{uuid.uuid4().hex}"
stored = memory("add", f"helm test of memory-operator {word}", "--project", "helm-test")["id"]
found = [each["id"] for each in memory("query", word, "--project", "helm-test")["results"]]
memory("delete", stored, "--purge", "--yes")
print(f"stored {stored}, found {len(found)}, erased", flush=True)
sys.exit(0 if stored in found else 1)
