"""The pages' style sheet: light and dark by the reader's system, one column on a phone."""

from __future__ import annotations

from jax_prune.report.drawing import LIGHT

DARK = {
    "ink": "#e8ecf3",
    "muted": "#98a2b3",
    "line": "#2d3542",
    "series-0": "#6ea0ff",
    "series-1": "#ff9d66",
    "series-2": "#4fd1a5",
    "series-3": "#b79bff",
    "series-4": "#ff86ad",
    "series-5": "#4cc9e0",
    "series-6": "#e5c04d",
    "series-7": "#9aa8bd",
}

RULES = """
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 56px; }
header { margin-bottom: 22px; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.015em; }
h2 { font-size: 1.12rem; margin: 0 0 4px; letter-spacing: -0.005em; }
p { margin: 0 0 12px; max-width: 100ch; }
.muted { color: var(--muted); }
.small { font-size: 0.86rem; }
.beneath { margin: 10px 0 0; }
.warn { border-left: 3px solid var(--series-1); background: var(--card); padding: 8px 12px;
  border-radius: 0 8px 8px 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 14px;
  margin-bottom: 14px; }
.card, section { background: var(--card); border: 1px solid var(--line); border-radius: 14px; min-width: 0; }
.card { padding: 14px 18px; }
.card .value { font-size: 1.7rem; font-weight: 650; letter-spacing: -0.02em; line-height: 1.25;
  font-variant-numeric: tabular-nums; }
.card .from { font-size: 0.62em; font-weight: 500; color: var(--muted); white-space: nowrap; }
section { padding: 18px 20px; margin-bottom: 14px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); gap: 14px;
  margin-bottom: 14px; }
.pair section { margin: 0; }
.panels { display: grid; gap: 10px 16px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 240px), 1fr)); }
.picture { display: flex; justify-content: center; }
.picture svg { width: 100%; max-width: 470px; }
.wide svg { max-width: 720px; }
.panels svg { width: 100%; }
svg { height: auto; display: block; }
svg text { font-family: inherit; }
.keys { display: flex; flex-wrap: wrap; gap: 4px 18px; margin-bottom: 8px; font-size: 0.86rem; }
.keys span::before { content: ""; display: inline-block; width: 18px; height: 3px; border-radius: 2px;
  vertical-align: middle; margin-right: 7px; background: var(--key); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
th { text-align: right; font-weight: 550; color: var(--muted); font-size: 0.84rem; white-space: nowrap; }
td { text-align: right; white-space: nowrap; }
th, td { padding: 6px 8px; border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 6.6em; }
th.text, td.text { text-align: left; white-space: normal; min-width: 11em; }
th.wrap, td.wrap { white-space: normal; vertical-align: bottom; }
td.best { font-weight: 650; color: var(--series-2); }
tr.first td { color: var(--series-2); }
tr.first td:first-child { font-weight: 650; }
tr.total td { font-weight: 650; border-top: 1px solid var(--muted); }
td.bar { width: 34%; min-width: 56px; }
.bar div { background: var(--line); border-radius: 4px; height: 9px; overflow: hidden; }
.bar i { display: block; height: 100%; border-radius: 4px; background: var(--series-0); min-width: 2px; }
pre, code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 0.84rem; }
pre { background: var(--ground); border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px;
  margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.facts td:first-child { color: var(--muted); width: 38%; }
@media (max-width: 600px) {
  main { padding: 18px 12px 40px; }
  h1 { font-size: 1.4rem; }
  .cards { grid-template-columns: 1fr 1fr; gap: 10px; }
  .card { padding: 11px 13px; }
  .card .value { font-size: 1.28rem; }
  .card .from { display: block; font-size: 0.7em; }
  section { padding: 14px; }
  .panels { grid-template-columns: 1fr 1fr; }
  th, td { padding: 6px 6px; }
}
@media print { body { background: #fff; } section, .card { break-inside: avoid; } }
"""


def sheet() -> str:
    """The whole style sheet."""
    light, dark = (
        {"ground": "#f5f6f9", "card": "#ffffff", **LIGHT},
        {"ground": "#0f1319", "card": "#171c25", **DARK},
    )
    return (
        f":root {{ color-scheme: light dark; {_variables(light)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {_variables(dark)} }} }}\n{RULES}"
    )


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())
