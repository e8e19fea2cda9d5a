"""One channel's session: packets in, verdicts out, accounts that close."""
