"""Nouns: plain data that every layer may hold. No I/O, no clock, no protobuf."""
