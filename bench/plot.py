"""Draw results: `python -m bench.plot RESULTS.json` writes an SVG for each load to docs/images/.

For each number that systems share, a row each: a dot for the median and a line from the lowest round to the
highest, on a scale of that number's own, from zero. What one system alone measures is not drawn.
"""

import argparse
import json
import statistics
from html import escape
from pathlib import Path

from bench.report import Results, metrics, values

DIRECTORY = Path(__file__).resolve().parents[1] / "docs" / "images"
LEFT, WIDTH, ROW, RIGHT = 220, 400, 20, 190
# Colours that tell each other apart on either ground, also without red or green. GitHub shows the picture on
# the ground of its own theme, so it brings one.
STYLE = """\
<style>
svg { font: 12px system-ui, sans-serif; }
.ground { fill: #ffffff; } text { fill: #1f2328; } .scale { stroke: #d8dee4; }
.agentrelay { fill: #0969da; stroke: #0969da; } .websockets { fill: #bc4c00; stroke: #bc4c00; }
.floor { fill: #6e7781; stroke: #6e7781; } .floor-1, .floor-held { fill: #afb8c1; stroke: #afb8c1; }
@media (prefers-color-scheme: dark) {
.ground { fill: #0d1117; } text { fill: #e6edf3; } .scale { stroke: #30363d; }
.agentrelay { fill: #58a6ff; stroke: #58a6ff; } .websockets { fill: #f0883e; stroke: #f0883e; }
.floor { fill: #8b949e; stroke: #8b949e; } .floor-1, .floor-held { fill: #57606a; stroke: #57606a; }
}
.name { font-weight: 600; } .range { stroke-width: 3; stroke-linecap: round; }
</style>"""


def draw(results: Results, load: str) -> str:
    """Draw one load; empty if there is nothing to compare."""
    shapes: list[str] = []
    y = 50
    for metric in metrics(results, load):
        rows = [
            (system, numbers)
            for system in results["loads"][load]
            if (numbers := values(results, load, system, metric))
        ]
        top = max(max(numbers) for _, numbers in rows)
        if top <= 0 or len(rows) < 2:
            continue
        shapes.append(f'<text class="name" x="16" y="{y + 4}">{escape(metric)}</text>')
        for system, numbers in rows:
            middle = statistics.median(numbers)
            # What has shrunk is drawn as nothing; its number is beside it.
            low_x, middle_x, high_x = (
                LEFT + WIDTH * max(0.0, number) / top for number in (min(numbers), middle, max(numbers))
            )
            shapes.append(f'<line class="scale" x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y}" y2="{y}"/>')
            shapes.append(
                f'<line class="range {system}" x1="{low_x:.1f}" x2="{high_x:.1f}" y1="{y}" y2="{y}"/>'
            )
            shapes.append(f'<circle class="{system}" cx="{middle_x:.1f}" cy="{y}" r="4.5"/>')
            shapes.append(f'<text x="{LEFT + WIDTH + 14}" y="{y + 4}">{middle:.4g} {escape(system)}</text>')
            y += ROW
        y += 10
    if not shapes:
        return ""
    width = LEFT + WIDTH + RIGHT
    title = f"{load}, {results['rounds']} rounds"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" role="img">',
            f"<title>{escape(title)}</title>",
            STYLE,
            f'<rect class="ground" width="{width}" height="{y}" rx="6"/>',
            f'<text class="name" x="16" y="26">{escape(title)}</text>',
            *shapes,
            "</svg>\n",
        ]
    )


def write(results: Results, directory: Path = DIRECTORY) -> list[Path]:
    """Draw every load that has something to compare; gives the files."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for load in results["loads"]:
        path = directory / f"bench-{load}.svg"
        if drawing := draw(results, load):
            path.write_text(drawing)
            written.append(path)
    return written


def main() -> None:
    """Draw from the command line."""
    parser = argparse.ArgumentParser(prog="bench.plot", description="Draw results of bench.system.")
    parser.add_argument("results", type=Path)
    parser.add_argument("--directory", type=Path, default=DIRECTORY)
    arguments = parser.parse_args()
    for path in write(json.loads(arguments.results.read_text()), arguments.directory):
        print(path)


if __name__ == "__main__":
    main()
