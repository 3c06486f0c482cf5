"""`helm test`: stores a memory through the Service, finds it, erases it; exits 1 with the reason when it cannot."""

import json
import subprocess
import sys
import time
import urllib.request
import uuid

SERVER, TOKEN_FILE = sys.argv[1:]
DEADLINE = time.monotonic() + 120
COMMAND = ["memory", "--server", SERVER, "--token-file", TOKEN_FILE, "--json"]


def memory(*words):
    """What the `memory` command answers, tried again until the deadline."""
    while True:
        done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0:
            return json.loads(done.stdout)
        print(f"memory {words[0]} exits {done.returncode}: {done.stderr.strip()}", flush=True)
        if time.monotonic() > DEADLINE:
            sys.exit(1)
        time.sleep(2)


word = f"word{uuid.uuid4().hex}"
stored = memory("add", f"helm test of memory-operator {word}", "--project", "helm-test")["id"]
found = memory("query", word, "--project", "helm-test")["results"]
with open(TOKEN_FILE) as file:
    headers = {"Authorization": f"Bearer {file.read().strip()}"}
purge = urllib.request.Request(f"{SERVER}/memory/{stored}?purge=true", method="DELETE", headers=headers)
with urllib.request.urlopen(purge, timeout=30) as reply:
    print(f"stored {stored}, found {len(found)}, erased: {reply.status}")
sys.exit(0 if stored in [each["id"] for each in found] else 1)
