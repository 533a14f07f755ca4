"""What was measured, as JSON, as Markdown and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from sourcebook.evaluation import measures
from sourcebook.evaluation.running import Result


def report(name: str, questions: int, results: Sequence[Result], about: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, JSON-safe. `compared` sets each pipeline against the first, question by question."""
    first = results[0]
    return {
        "set": name,
        "questions": questions,
        **about,
        "pipelines": [_summary(result) for result in results],
        "compared": [
            {
                "pipeline": result.pipeline,
                "with": first.pipeline,
                "measures": {
                    m: {
                        "difference": round(measures.mean(result.values[m]) - measures.mean(values), 4),
                        "p": round(measures.difference(values, result.values[m]), 4),
                    }
                    for m, values in first.values.items()
                    if m in result.values
                },
            }
            for result in results[1:]
        ],
    }


def _summary(result: Result) -> dict[str, Any]:
    return {
        "pipeline": result.pipeline,
        "measures": {
            name: {
                "mean": round(measures.mean(values), 4),
                "interval": [round(x, 4) for x in measures.interval(values)],
            }
            for name, values in result.values.items()
        },
        "search_ms": {
            "p50": round(measures.percentile(result.took_ms, 0.5), 1),
            "p95": round(measures.percentile(result.took_ms, 0.95), 1),
        },
    }


def markdown(data: Mapping[str, Any]) -> str:
    """Two tables: the measures with their 95 % intervals, and the differences to the first pipeline."""
    names = list(dict.fromkeys(m for p in data["pipelines"] for m in p["measures"]))
    lines = [
        f"## {data['set']}: {data['questions']} questions",
        "",
        f"| pipeline | {' | '.join(names)} | search p50 / p95 ms |",
        "|---" * (len(names) + 2) + "|",
    ]
    for one in data["pipelines"]:
        cells = [_cell(one["measures"].get(name)) for name in names]
        lines.append(
            f"| {one['pipeline']} | {' | '.join(cells)} | {one['search_ms']['p50']} / {one['search_ms']['p95']} |"
        )
    if data["compared"]:
        head = f"| against {data['compared'][0]['with']} | {' | '.join(names)} |"
        lines += ["", head, "|---" * (len(names) + 1) + "|"]
    for one in data["compared"]:
        cells = [_against(one["measures"].get(name)) for name in names]
        lines.append(f"| {one['pipeline']} | {' | '.join(cells)} |")
    lines += ["", "Brackets: 95 % bootstrap interval. p: paired randomisation test over questions, two-sided."]
    return "\n".join(lines) + "\n"


def _cell(measured: Mapping[str, Any] | None) -> str:
    if measured is None:
        return ""
    low, high = measured["interval"]
    return f"{measured['mean']:.4f} [{low:.3f}, {high:.3f}]"


def _against(measured: Mapping[str, Any] | None) -> str:
    return "" if measured is None else f"{measured['difference']:+.4f} (p {measured['p']:.3f})"


_ROW, _LEFT, _WIDTH = 26, 230, 420
_COLOURS = ("#3b6fb6", "#d9822b", "#4c9a5b", "#9a4c8b", "#7a7a7a", "#b63b3b")


def svg(data: Mapping[str, Any]) -> str:
    """A bar for each measure and pipeline, with its interval; plain SVG that any browser shows."""
    names = list(dict.fromkeys(m for p in data["pipelines"] for m in p["measures"]))
    parts, y = [_label(10, 24, f"{data['set']}, {data['questions']} questions", "bold")], 48
    for name in names:
        parts.append(_label(10, y + 14, name, "bold"))
        for number, one in enumerate(data["pipelines"]):
            if (measured := one["measures"].get(name)) is None:
                continue
            parts += _bar(y, one["pipeline"], measured, _COLOURS[number % len(_COLOURS)])
            y += _ROW
        y += 10
    size = f'width="{_LEFT + _WIDTH + 80}" height="{y + 10}"'
    style = 'font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n<title>{escape(data["set"])}</title>'
    return "\n".join([head, *parts, "</svg>\n"])


def _bar(y: int, pipeline: str, measured: Mapping[str, Any], colour: str) -> list[str]:
    mean, (low, high) = measured["mean"], measured["interval"]
    middle = y + 9
    return [
        _label(120, y + 14, pipeline[:18]),
        f'<rect x="{_LEFT}" y="{y}" width="{mean * _WIDTH:.1f}" height="18" fill="{colour}"/>',
        f'<line x1="{_LEFT + low * _WIDTH:.1f}" x2="{_LEFT + high * _WIDTH:.1f}" y1="{middle}" y2="{middle}" '
        'stroke="black" stroke-width="2"/>',
        _label(_LEFT + _WIDTH + 8, y + 14, f"{mean:.3f}"),
    ]


def _label(x: float, y: float, text: str, weight: str = "normal") -> str:
    return f'<text x="{x}" y="{y}" font-weight="{weight}">{escape(text)}</text>'
