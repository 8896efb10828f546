"""The agent file: what it says, where it says it, and what it means as values of the model.

Secrets are named here and never kept.
"""

QUICK = {"PYDANTIC_DISABLE_PLUGINS": "__all__"}
"""For the environment of whoever reads one: pydantic would look through all that is installed for plugins, a tenth of
the time that its import takes."""
