"""The Python API: deployments, applications, run and its companions."""
