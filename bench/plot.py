"""Draw results: `python -m bench.plot RESULTS.json` writes an SVG for each load to docs/images/.

One row for each number that systems share, a dot for the median and a line from the lowest round to the
highest, on a scale of the row's own: within a run is what can be compared.
"""

import argparse
import json
import statistics
from html import escape
from pathlib import Path

from bench.report import Results, values

DIRECTORY = Path(__file__).resolve().parents[1] / "docs" / "images"
COLORS = {"agentrelay": "#2563eb", "websockets": "#d97706", "floor": "#6b7280"}
LEFT, WIDTH, ROW, RIGHT = 190, 420, 22, 150


def draw(results: Results, load: str) -> str:
    """Draw one load."""
    measured = results["loads"][load]
    metrics = list(
        dict.fromkeys(metric for rounds in measured.values() for each in rounds for metric in each)
    )
    shapes: list[str] = []
    y = 46
    for metric in metrics:
        rows = [
            (system, numbers) for system in measured if (numbers := values(results, load, system, metric))
        ]
        top = max(max(numbers) for _, numbers in rows)
        if top <= 0:
            continue
        shapes.append(f'<text x="8" y="{y + 4}" font-weight="600">{escape(metric)}</text>')
        for system, numbers in rows:
            low, middle, high = (
                LEFT + WIDTH * number / top
                for number in (min(numbers), statistics.median(numbers), max(numbers))
            )
            color = COLORS[system]
            shapes.append(f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y}" y2="{y}" stroke="#e5e7eb"/>')
            shapes.append(
                f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="{color}" stroke-width="3"/>'
            )
            shapes.append(f'<circle cx="{middle:.1f}" cy="{y}" r="5" fill="{color}"/>')
            label = f"{statistics.median(numbers):.4g} {system}"
            shapes.append(f'<text x="{LEFT + WIDTH + 12}" y="{y + 4}" fill="{color}">{label}</text>')
            y += ROW
        y += 8
    width = LEFT + WIDTH + RIGHT
    title = f"{load}: {results['rounds']} rounds, {results['started_at']}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" '
            'font-family="system-ui, sans-serif" font-size="12" fill="#111827">',
            f'<rect width="{width}" height="{y}" fill="#ffffff"/>',
            f'<text x="8" y="22" font-size="14" font-weight="600">{escape(title)}</text>',
            *shapes,
            "</svg>\n",
        ]
    )


def main() -> None:
    """Draw from the command line."""
    parser = argparse.ArgumentParser(prog="bench.plot", description="Draw results of bench.system.")
    parser.add_argument("results", type=Path)
    parser.add_argument("--directory", type=Path, default=DIRECTORY)
    arguments = parser.parse_args()
    results: Results = json.loads(arguments.results.read_text())
    arguments.directory.mkdir(parents=True, exist_ok=True)
    for load in results["loads"]:
        path = arguments.directory / f"bench-{load}.svg"
        path.write_text(draw(results, load))
        print(path)


if __name__ == "__main__":
    main()
