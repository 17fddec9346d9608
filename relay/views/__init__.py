"""What operators see, computed from a node and its store: the API writes it as JSON, the console as pages, in the same words.

A view is a model and the function that fills it. It reads what the node observed and bounded parts of the store, so that none
takes longer the more there is; what can't be known while the store is broken is left open, and why is said.
"""
