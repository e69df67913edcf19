"""The style sheet of a report: for laptop, phone and paper, light and dark."""

from icl_jax.report.style import FAINT, GRID, INK, MUTED, PAPER

SHEET = """
:root{color-scheme:light dark;--paper:var(%(paper)s);--ink:var(%(ink)s);--muted:var(%(muted)s);
--faint:var(%(faint)s);--line:var(%(grid)s);--soft:#f5f6f8;--link:#2457c5;
--holds:#0b7a4b;--fails:#b3261e;--undecided:#7a5b00;--holds-bg:#e3f5ec;--fails-bg:#fdeae8;--undecided-bg:#fbf1d8}
@media screen and (prefers-color-scheme:dark){:root{--soft:#1b2027;--link:#8ab4ff;
--holds:#5fd39b;--fails:#ff9a91;--undecided:#eac15d;--holds-bg:#14312a;--fails-bg:#3b1f20;--undecided-bg:#332b18}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%%;text-size-adjust:100%%;scroll-behavior:smooth}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;overflow-wrap:break-word}
main{max-width:1152px;margin:0 auto;padding:32px 16px 64px}
a{color:var(--link);text-underline-offset:2px}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 .4rem;text-wrap:balance}
h2{font-size:1.4rem;line-height:1.25;margin:0 0 .3rem;text-wrap:balance}
h3{font-size:1.06rem;margin:2.4rem 0 .5rem}
p{margin:.4rem 0}
.lede,.note,figcaption,caption{color:var(--muted)}
.lede{max-width:75ch}
.note,figcaption{font-size:.875rem;max-width:95ch}
section.sweep{margin-top:4rem;padding-top:1.6rem;border-top:2px solid var(--line)}
section.sweep.only{margin-top:0;padding-top:0;border:0}
ul.contents{list-style:none;padding:0;margin:1.2rem 0}
ul.contents li{padding:.45rem 0;border-top:1px solid var(--line)}
ul.contents li:last-child{border-bottom:1px solid var(--line)}
ul.contents a{font-weight:600;margin-right:.6em}
ul.chips{list-style:none;display:flex;flex-wrap:wrap;gap:.4rem;padding:0;margin:.8rem 0}
.chip,.verdict{display:inline-block;border-radius:999px;padding:.08rem .65rem;font-size:.875rem;white-space:nowrap;
background:var(--soft);font-variant-numeric:tabular-nums}
.verdict{font-weight:600}
.holds{color:var(--holds);background:var(--holds-bg)}
.fails{color:var(--fails);background:var(--fails-bg)}
.undecided{color:var(--undecided);background:var(--undecided-bg)}
pre,code{font:.84rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
pre{background:var(--soft);border-radius:6px;padding:.7rem .9rem;overflow-x:auto;margin:.6rem 0;max-width:100%%}
pre.wrap{white-space:pre-wrap}
.scroll{overflow:auto;max-width:100%%;max-height:48rem;margin:.5rem 0}
.claims .scroll{max-height:none}
.claims td.home{font-size:.93em}
.scroll:focus-visible{outline:2px solid var(--link);outline-offset:2px}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;min-width:100%%}
th,td{padding:.38rem .7rem .38rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
thead th{position:sticky;top:0;background:var(--paper);color:var(--muted);font-weight:600;font-size:.92em;
vertical-align:bottom;box-shadow:inset 0 -1px var(--faint);border-bottom:0;z-index:1}
td.number,th.number{text-align:right;white-space:nowrap;padding:.38rem 1rem .38rem .3rem}
td:last-child,th:last-child{padding-right:.2rem}
caption{text-align:left;font-size:.875rem;padding-bottom:.4rem}
.aside,.statistic{color:var(--muted);font-size:.93em}
.statistic,.reason{display:block}
.reason{color:var(--undecided);font-size:.93em}
.label{white-space:nowrap}
.swatch{display:inline-block;width:.8em;height:.8em;border-radius:50%%;margin-right:.5em;vertical-align:-.06em}
svg.effect{width:8.5rem;height:2.05rem;display:block}
svg.effect text{font-size:9px;fill:var(--muted)}
ul.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;padding:0;margin:.3rem 0 .6rem;font-size:.9rem;
align-items:center}
ul.legend .name{color:var(--muted)}
.mark{margin-right:.4em;font-size:1.05em}
.key{display:inline-block;width:1.5em;height:.26em;border-radius:2px;margin-right:.45em;vertical-align:.22em}
.ramp{display:inline-flex;width:12rem;max-width:40vw;height:.8em;margin:0 .5em;vertical-align:-.06em;border-radius:3px;
overflow:hidden}
.ramp i{flex:1}
figure{margin:0}
.panels{display:grid;gap:1rem 1.2rem;grid-template-columns:repeat(auto-fit,minmax(min(100%%,var(--least)),1fr));
margin:.4rem 0 .8rem}
.panels.one{max-width:560px}
.panels svg{display:block;width:100%%;height:auto;overflow:visible}
.panels svg text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
.panels svg *{stroke-linejoin:round}
details{margin:.6rem 0;border-top:1px solid var(--line);padding-top:.6rem}
summary{cursor:pointer;font-weight:600}
details details{border:0;padding-top:0}
details details summary{font-weight:400;color:var(--muted)}
footer{margin-top:4rem;color:var(--muted);font-size:.84rem}
@media (max-width:900px),print{
.claims table,.claims tbody{display:block}
.claims thead{display:none}
.claims tr{display:grid;grid-template-columns:auto 1fr;gap:.1rem .8rem;padding:.8rem 0;
border-bottom:1px solid var(--line)}
.claims td,.claims td.number{border:0;padding:0;text-align:left;white-space:normal}
.claims td.claim{grid-column:1/-1}
.claims td.judged{order:-2;grid-column:1}
.claims td.home{order:-1;grid-column:2}
.claims td[data-name]::before{content:attr(data-name) " ";color:var(--muted)}
}
@media (max-width:700px){
main{padding:20px 16px 48px}
h1{font-size:1.45rem}
.panels{gap:1.2rem .6rem}
}
@media print{
main{max-width:none;padding:0}
body{font-size:10pt}
table{font-size:7.5pt}
.claims table{font-size:9pt}
.panels{grid-template-columns:repeat(auto-fit,minmax(200px,1fr))}
.scroll{overflow:visible;max-height:none}
thead th{position:static}
figure,tr,.chips{break-inside:avoid}
h2,h3{break-after:avoid}
section.sweep{break-before:page;border:0}
section.sweep.only{break-before:auto}
}
"""


def sheet(palette: str) -> str:
    """Returns the style sheet. palette: CSS of the colours of the figures."""
    names = {"paper": PAPER, "ink": INK, "muted": MUTED, "faint": FAINT, "grid": GRID}
    return palette + SHEET % {name: f"--c{colour[1:]}" for name, colour in names.items()}
