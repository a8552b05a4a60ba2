"""Where deployments of these tests write what they did. A module of its own: code travels by value, modules do not."""

entries: list[str] = []
