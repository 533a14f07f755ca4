"""The metrics themselves: their names, what they mean, and their labels. Only `metrics.py` imports this."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_LONG = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Made:
    """Registered with a registry of its own: two Sourcebooks in one process count apart."""

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()
        self.first_token = Histogram(
            "sourcebook_first_token_seconds",
            "From the question to the answer's first word or thought, retrieval included.",
            ["llm"],
            registry=r,
            buckets=_LONG,
        )
        self.tokens = Counter(
            "sourcebook_tokens_total", "Tokens as the model counted them.", ["llm", "kind"], registry=r
        )
        self.runs = Counter("sourcebook_runs_total", "Answers that have ended.", ["outcome"], registry=r)
        self.run = Histogram(
            "sourcebook_run_seconds", "From the question to the end of its answer.", registry=r, buckets=_LONG
        )
        self.unsupported = Counter(
            "sourcebook_unsupported_citations_total", "Citations that do not support their sentence.", registry=r
        )
        self.retrieval = Histogram(
            "sourcebook_retrieval_seconds", "A search, from the question to its passages.", registry=r, buckets=_SHORT
        )
        self.empty = Counter("sourcebook_empty_retrievals_total", "Searches that found nothing.", registry=r)
        self.irrelevant = Counter(
            "sourcebook_irrelevant_passages_total", "Passages that were found, and left out as irrelevant.", registry=r
        )
        self.stages = Histogram(
            "sourcebook_stage_seconds", "A stage of reading a source.", ["stage"], registry=r, buckets=_LONG
        )
        of = ["kind", "instance", "call"]
        self.calls = Histogram("sourcebook_component_seconds", "A call of a component.", of, registry=r, buckets=_LONG)
        self.call_failures = Counter(
            "sourcebook_component_failures_total", "Calls of a component that raised.", of, registry=r
        )
        self.hooks = Histogram(
            "sourcebook_hook_seconds", "A call of a plugin's hook.", ["plugin", "hook"], registry=r, buckets=_SHORT
        )
        self.hook_failures = Counter(
            "sourcebook_hook_failures_total",
            "Calls of a plugin's hook that raised or overran.",
            ["plugin", "hook"],
            registry=r,
        )
        self.reloads = Counter(
            "sourcebook_config_reloads_total", "Reloads of the configuration.", ["outcome"], registry=r
        )
        self._gauges = {
            name: Gauge(f"sourcebook_{name}", meaning, registry=r)
            for name, meaning in (
                ("open_runs", "Answers that are being made by this process."),
                ("open_streams", "Clients that follow a run at this process."),
                ("queued_jobs", "Jobs that wait, of all processes."),
                ("leased_jobs", "Jobs that are being done, by all processes."),
                ("queue_age_seconds", "How long the job that waits longest has been due."),
                ("plugins_failed", "Plugins that could not load."),
                ("open_configurations", "Configurations that somebody works with: 1 where none is left of before."),
            )
        }

    def exposition(self, gauges: Mapping[str, float]) -> bytes:
        """In Prometheus's text format."""
        for name, value in gauges.items():
            self._gauges[name].set(value)
        return generate_latest(self.registry)
