"""YAML: the only home of PyYAML and ruamel.yaml.

`manifests` reads what Git wants, with exactly the meaning that Kubernetes gives to YAML (`loader`, `scalars`); it
runs in a child process. `agentfile` reads the agent file, with line numbers. This package imports neither by itself.
"""
