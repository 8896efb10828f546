"""YAML: the only home of PyYAML and ruamel.yaml.

`manifests` reads what Git wants, with exactly the meaning that Kubernetes gives to YAML (`loader`, `scalars`); it
runs in a child process. `agentfile` reads the agent file, with line numbers. `images` is what image automation needs:
scalars that are marked for a policy (`marked`) and the file of what must not come back (`quarantine`), over where
things stand in a text (`events`). This package imports none of them by itself.
"""
