"""The chaos campaign: messages through four nodes while faults are drawn from a seed, judged from the clients' journals alone.

``python -m tests.chaos`` runs it; :mod:`tests.chaos.checker` judges it and imports nothing of the relay.
"""
