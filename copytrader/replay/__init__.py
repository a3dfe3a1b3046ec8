"""Replay: a recorded day through the same engine again, to prove it and to ask what if.

    recording   the facts of a journal, run by run, and which of them are meant
    frames      a file of raw order-update frames as events
    proof       the engine must decide what was recorded, byte for byte
    rules       the recorded rules with some of them changed
    what_if     the same day with other rules, filled on paper
    results     what a day came to, for each follower, and what differs between two
    scene       the state around an order, in words
    report      one page that opens without a network
    offline     nothing here may open a connection

Nothing here reads a clock or writes to a journal.
"""
