"""Fuzzing of everything that reads bytes from outside: ``python -m tests.fuzz`` (``make fuzz``).

``mutate`` makes bad input from good, ``corpus`` holds the good, ``targets`` says what reads it and what alone may come out of it,
``run`` runs, measures and keeps what failed. Every case is made from seed, target and number only, so each can be repeated alone.
"""
