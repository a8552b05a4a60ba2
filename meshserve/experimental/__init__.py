"""Routers by the import paths that programs written for Ray Serve name them with. See docs/routing.md."""
