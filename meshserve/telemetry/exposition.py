"""This process's metrics as Prometheus text: ours, the user's, and what the client library says of the process.

The labels that tell processes apart are written into every line here, where they are known, so that whoever merges
the texts of many processes need not read them (`telemetry.merging`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain

from prometheus_client import REGISTRY, Metric

from meshserve.telemetry.registry import PROCESS
from meshserve.telemetry.series import number_text

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_labels: Mapping[str, str] = {}


def set_process_labels(labels: Mapping[str, str]) -> None:
    """Says who this process is: added to all its series, except where a metric has a label of that name itself."""
    global _labels
    _labels = dict(labels)


def process_labels() -> Mapping[str, str]:
    """The labels added to all series of this process."""
    return _labels


def process_text() -> bytes:
    """Everything this process has counted."""
    return render(chain(PROCESS.collect(), REGISTRY.collect()), _labels)


def render(families: Iterable[Metric], added: Mapping[str, str]) -> bytes:
    """Families as text, each with its HELP and TYPE, and with labels added to every series."""
    lines: list[str] = []
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if family.type == "info":
            name = f"{family.name}_info"
        lines.append(f"# HELP {name} {_one_line(family.documentation)}")
        lines.append(f"# TYPE {name} {_TYPES.get(family.type, family.type)}")
        shown = (sample for sample in family.samples if not sample.name.endswith(_ONLY_OPENMETRICS))
        lines.extend(_line(sample.name, sample.labels, sample.value, added) for sample in shown)
    return "\n".join([*lines, ""]).encode() if lines else b""


_TYPES = {"info": "gauge", "stateset": "gauge", "gaugehistogram": "histogram", "unknown": "untyped"}


_ONLY_OPENMETRICS = "_created"
"""Such samples would be a second family, without a head."""


def _line(name: str, labels: Mapping[str, str], value: float, added: Mapping[str, str]) -> str:
    pairs = [f'{key}="{_escaped(text)}"' for key, text in labels.items()]
    pairs += [f'{key}="{_escaped(text)}"' for key, text in added.items() if key not in labels]
    return f"{name}{{{','.join(pairs)}}} {number_text(value)}" if pairs else f"{name} {number_text(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _one_line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
