"""The agent file: what it says, where it says it, and what it means as values of the model.

Secrets are named here and never kept.
"""
