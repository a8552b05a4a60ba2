"""The controller process: the only writer of desired state."""
