"""From a name to a reply: directory, router, session, handle."""
