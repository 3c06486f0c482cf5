"""`python -m memory_webhook`."""

from __future__ import annotations

from memory_webhook.main import main

main()
