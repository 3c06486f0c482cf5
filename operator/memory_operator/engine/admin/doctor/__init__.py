"""Looking for what is wrong: one list of checks, each OK, WARN or FAIL, with the reason and what mends it."""
