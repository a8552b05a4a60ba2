"""The replica process: admission, user code, draining."""
