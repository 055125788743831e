"""How the page looks, by day and by night."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--text:#1c2430;--dim:#5a6675;--paper:#fff;--sheet:#f5f7fa;--line:#dde3ea;--link:#0b5fb0;
--get:#0b6b3a;--post:#0b5fb0;--delete:#a32020}
@media (prefers-color-scheme:dark){:root{--text:#dfe6ee;--dim:#98a5b4;--paper:#12171d;--sheet:#1a2129;--line:#2c3641;
--link:#7cb8f5;--get:#6fce97;--post:#7cb8f5;--delete:#f29a9a}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:62rem;padding:1.5rem 1.25rem 4rem;background:var(--paper);color:var(--text);
font:16px/1.5 system-ui,sans-serif}
h1{margin:0 0 .5rem;font-size:1.8rem}h2{margin:2.25rem 0 .25rem;font-size:1.25rem}
h3{margin:1rem 0 .35rem;font-size:.95rem}
small{color:var(--dim);font-weight:400}p{margin:.4rem 0;max-width:46rem}section>p{color:var(--dim)}a{color:var(--link)}
code,pre{font:.86em/1.45 ui-monospace,"DejaVu Sans Mono",monospace}
nav{display:flex;flex-wrap:wrap;gap:.35rem 1rem;margin-top:1rem;padding:.6rem 0;border-block:1px solid var(--line)}
details{margin:.4rem 0;border:1px solid var(--line);border-radius:.4rem;background:var(--sheet);padding:0 .85rem}
details[open]{padding-bottom:.85rem}
summary{cursor:pointer;padding:.5rem 0;display:flex;flex-wrap:wrap;gap:.1rem .75rem;align-items:baseline;
overflow-wrap:anywhere}
summary:focus-visible,a:focus-visible{outline:2px solid var(--link);outline-offset:2px}
summary span{color:var(--dim)}summary b{min-width:4rem;font-size:.8rem;letter-spacing:.04em;color:var(--link)}
b.get{color:var(--get)}b.post{color:var(--post)}b.delete{color:var(--delete)}
table{width:100%;border-collapse:collapse;font-size:.92rem}
th,td{padding:.3rem .75rem .3rem 0;border-top:1px solid var(--line);text-align:left;vertical-align:top;font-weight:400;
overflow-wrap:anywhere}
th{width:25%}td:nth-child(2){width:22%;color:var(--dim)}em{color:var(--delete);font-size:.8rem}
pre{margin:.6rem 0 0;padding:.7rem .85rem;border:1px solid var(--line);border-radius:.35rem;background:var(--paper);
overflow-x:auto;max-height:26rem}
@media (max-width:40rem){tr,th,td,td:nth-child(2){display:block;width:auto}th,td{padding:0;border:0}
tr{padding:.35rem 0;border-top:1px solid var(--line)}}
"""
