"""What every page of HTML that we write is made of: it needs nothing else, no script, no network, no other file.

It prints, it fits a telephone, and every text in it is escaped: what a broker or an order says cannot become markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from copytrader.render import clean

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #667085; --line: #d9dee7; --paper: #fff; --card: #f6f8fb;
  --s0: #2f6fde; --s1: #e2711d; --s2: #2a9d6f; --s3: #8e5bd0; --s4: #c8324f; --s5: #6b7a90; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9f0; --soft: #9aa4b5; --line: #333b4a; --paper: #12161d;
  --card: #1b212b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1100px; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: .2rem 0 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.soft, figcaption { color: var(--soft); margin: .2rem 0; font-size: .85rem; } .soft li { margin: 0; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .88rem; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td { overflow-wrap: break-word; max-width: 30em; } code { overflow-wrap: anywhere; }
td.n, th.n { text-align: right; white-space: nowrap; }
tr:last-child td { border-bottom: 0; } th { background: var(--card); white-space: nowrap; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); gap: 1rem; }
figure { margin: 0; padding: .7rem; border: 1px solid var(--line); border-radius: 6px; break-inside: avoid; }
figure h3 { margin: 0 0 .4rem; font-size: .95rem; } svg { width: 100%; height: auto; display: block; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); } .grid { stroke: var(--line); }
.zero { stroke: var(--soft); } .mark { stroke: var(--s4); stroke-dasharray: 4 3; }
svg .markname { fill: var(--s4); paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
.s0 { fill: var(--s0); } .s1 { fill: var(--s1); } .s2 { fill: var(--s2); } .s3 { fill: var(--s3); }
.s4 { fill: var(--s4); } .s5 { fill: var(--s5); }
.t0 { stroke: var(--s0); } .t1 { stroke: var(--s1); } .t2 { stroke: var(--s2); } .t3 { stroke: var(--s3); }
.t4 { stroke: var(--s4); } .t5 { stroke: var(--s5); } polyline { fill: none; stroke-width: 1.6; }
.key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .8em; border-radius: 2px; }
.k0 { background: var(--s0); } .k1 { background: var(--s1); } .k2 { background: var(--s2); }
.k3 { background: var(--s3); } .k4 { background: var(--s4); } .k5 { background: var(--s5); }
@media print { :root { --ink: #000; --paper: #fff; --card: #f2f2f2; --soft: #444; --line: #bbb; } body { padding: 0; }
  .scroll { overflow: visible; } tr { break-inside: avoid; } thead { display: table-header-group; } h2 {
  break-after: avoid; } }
"""
_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer">
<title>"""


def beginning(title: str) -> str:
    """Return how a page begins whose title begins so."""
    return _HEAD + text(title)


def page(title: str, body: str) -> str:
    """Return a whole page; the body is markup that comes after the heading."""
    return f"""{beginning(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{text(title)}</h1>
{body}
</body>
</html>
"""


def text(words: str) -> str:
    return escape(clean(words))


def figure(title: str, svg: str, caption: str, series: Sequence[str] = ()) -> str:
    """Frame a plot; a key names its series."""
    legend = "".join(f'<span class="key k{number % 6}"></span>{text(name)}' for number, name in enumerate(series))
    return f"<figure><h3>{text(title)}</h3>{svg}<figcaption>{text(caption)}{legend}</figcaption></figure>"
