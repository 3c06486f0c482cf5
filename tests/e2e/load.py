"""People who use the API while something goes wrong: they try again once, and remember what was promised."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from e2e.node.inside import enter_network

REQUEST_SECONDS = 20.0
PAUSE_SECONDS = 0.1
RETRY_SECONDS = 1.0
"""How long somebody waits before trying again, where the API does not say."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request. `ended` is monotonic seconds; `failure` is empty where it went well."""

    ended: float
    failure: str


@dataclass
class Report:
    """What the people have seen."""

    attempts: list[Attempt] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    """Requests that failed twice."""
    wrong: list[str] = field(default_factory=list)
    """Failures that are neither a refused or cut connection nor a 503."""
    stored: dict[str, str] = field(default_factory=dict)
    """Text of each memory that the API said it has stored, by id."""
    sent: int = 0

    def gap(self) -> float:
        """Seconds from the last success before the first failure to the success that ends the last; 0 without one."""
        longest, since = 0.0, None
        last = self.attempts[0].ended if self.attempts else 0.0
        for attempt in sorted(self.attempts, key=lambda each: each.ended):
            if attempt.failure:
                since = since if since is not None else last
            else:
                if since is not None:
                    longest, since = max(longest, attempt.ended - since), None
                last = attempt.ended
        return longest


class Person:
    """One thread with the network of the node."""

    def __init__(self, number: int, pid: int, address: str, token: str, report: Report, tries: int) -> None:
        self._address, self._token, self._report, self._tries = address, token, report, tries
        self._number = number
        self._connection: http.client.HTTPConnection | None = None
        self._keeps = number % 2 == 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, args=(pid,), name=f"person-{number}")
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end, wait until it has."""
        self._stop.set()
        self._thread.join(3 * REQUEST_SECONDS)

    def _live(self, pid: int) -> None:
        enter_network(pid)
        for count in itertools.count():
            if self._stop.is_set():
                break
            if count % 3 == 0:
                text = f"person {self._number} says {count} at {time.time_ns()}"
                said = self._request("POST", "/memory/add", {"text": text})
                if said is not None:
                    self._report.stored[said["id"]] = text
            else:
                self._request("POST", "/memory/query", {"query": "what does a person say", "k": 3})
                self._report.sent += 1
            self._stop.wait(PAUSE_SECONDS)
        self._forget()

    def _request(self, method: str, path: str, body: Any) -> dict[str, Any] | None:
        """What the API says in the end; None when this person has given up."""
        wait = failure = ""
        for _ in range(self._tries):
            if wait:
                time.sleep(min(float(wait), 2.0))
            status, said, wait = self._send(method, path, body)
            failure = "" if status in (200, 201) else f"{method} {path}: {status} {said}"
            self._report.attempts.append(Attempt(time.monotonic(), failure))
            if not failure:
                found: dict[str, Any] = json.loads(said)
                return found
            if status not in (0, 503):
                self._report.wrong.append(failure)
        self._report.given_up.append(failure)
        return None

    def _send(self, method: str, path: str, body: Any) -> tuple[int, str, str]:
        """Status (0: no answer), body or cause, and how long to wait before another try."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._address, timeout=REQUEST_SECONDS)
        try:
            self._connection.request(method, path, json.dumps(body), headers)
            answer = self._connection.getresponse()
            said = answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            self._forget()
            return 0, repr(error), str(RETRY_SECONDS)
        if not self._keeps or answer.will_close:
            self._forget()
        return answer.status, said, answer.headers.get("Retry-After", str(RETRY_SECONDS))

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


@contextmanager
def people(pid: int, address: str, token: str, *, count: int = 4, tries: int = 2) -> Iterator[Report]:
    """So many people use the API at `address` (IP:PORT) in the network of that process, each trying so often."""
    report = Report()
    crowd = [Person(number, pid, address, token, report, tries) for number in range(count)]
    try:
        yield report
    finally:
        for person in crowd:
            person.stop()
