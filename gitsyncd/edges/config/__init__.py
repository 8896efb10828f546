"""The agent file: what it says, where it says it, and what it means as values of the model.

Secrets are named here and never kept.
"""

import os

# pydantic would look through everything that is installed for plugins of its own: a tenth of the time that it takes to
# import, and nobody's code but ours has to do with an agent file.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
