"""Proto <-> model: the only files that know both."""
