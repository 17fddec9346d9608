"""Attacks as tests: one file a class, each a table of attacks with the code that must come out of it.

``forge`` makes what a broker, a stranger or a hostile member could send; ``conftest`` runs the three centres that are attacked.
"""
