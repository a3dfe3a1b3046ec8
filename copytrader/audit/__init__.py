"""What happened, and why: questions to a journal, and their answers as values.

Nothing here writes to a journal that is in use, talks to a broker, reads a clock or draws.  `keeping` alone
touches files.
"""
