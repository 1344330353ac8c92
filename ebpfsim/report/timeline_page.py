"""The page of ``ebpfsim run --report``: HTML with its own style and script, into which ``timeline`` puts the data."""

__all__ = ["PAGE"]

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>@TITLE@</title>
<style>
:root { color-scheme: light dark; --fg: #1d2329; --bg: #ffffff; --dim: #68737d; --line: #d9dee3; --lane: #f5f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --fg: #dfe5ea; --bg: #15191d; --dim: #8c97a1; --line: #343c44; --lane: #1d2328; }
}
body { margin: 2rem auto; padding: 0 1.5rem; max-width: 1280px; color: var(--fg); background: var(--bg);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p { margin: .3rem 0; }
.dim { color: var(--dim); }
.met { color: #1a7f4b; } .unmet { color: #c2332b; font-weight: 600; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code, .tip { font: 13px/1.4 ui-monospace, monospace; }
#chart { width: 100%; display: block; cursor: grab; touch-action: none; user-select: none; }
#chart text { font: 12px system-ui, sans-serif; fill: var(--fg); }
#chart .dim { fill: var(--dim); } #chart .host { font-weight: 600; }
.tip { position: fixed; pointer-events: none; max-width: 34rem; padding: .3rem .6rem; border-radius: 4px;
  color: var(--bg); background: var(--fg); opacity: .94; display: none; white-space: pre-wrap; z-index: 2; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: .4rem 0; font-size: 13px; }
.key i { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin-right: .35rem;
  vertical-align: -1px; }
.network { width: 100%; max-height: 34rem; } .network text { font: 12px system-ui, sans-serif; fill: var(--fg);
  text-anchor: middle; }
.network .cable { stroke: var(--dim); } .network .lossy { stroke: #c2332b; }
.network .machine { fill: #3b7dd8; } .network .router { fill: #d98324; } .network .switch { fill: #2e9e5b; }
button { font: inherit; padding: .1rem .7rem; }
</style>
</head>
<body>
@HEAD@
@NETWORK@
<h2>What happened, on one line of time</h2>
<p class="dim">Turn the wheel to zoom, drag to move. A dashed line is a change of a hook: what is left of it met the
programs of before, what is right of it those of after.</p>
<div class="key" id="key"></div>
<svg id="chart" xmlns="http://www.w3.org/2000/svg"></svg>
<p><button id="all">Show all</button> <span class="dim" id="range"></span></p>
<div class="tip" id="tip"></div>
@TABLES@
<script id="data" type="application/json">@DATA@</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const svg = document.getElementById("chart"), tip = document.getElementById("tip");
const LEFT = 190, LANE = 22, TOP = 26, GAP = 12, END = Math.max(data.end_ns, 1);
let from = 0, to = END, width = 0;
function node(name, attributes, text) {
  const made = document.createElementNS(svg.namespaceURI, name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  if (text !== undefined) made.textContent = text;
  return made;
}
function words(ns) {
  for (const [unit, size] of [["s", 1e9], ["ms", 1e6], ["us", 1e3]])
    if (ns >= size) return +(ns / size).toPrecision(7) + " " + unit;
  return Math.round(ns) + " ns";
}
const x = ns => LEFT + (ns - from) / (to - from) * (width - LEFT - 12);
function hover(made, text) {
  made.addEventListener("pointermove", event => {
    tip.textContent = text;
    tip.style.display = "block";
    tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
    tip.style.top = Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 8) + "px";
  });
  made.addEventListener("pointerleave", () => { tip.style.display = "none"; });
  return made;
}
function axis(height) {
  const rough = (to - from) / 8, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(each => each * power).find(each => each >= rough);
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
    svg.append(node("line", { x1: x(at), x2: x(at), y1: TOP - 6, y2: height, stroke: "var(--line)" }));
    const late = x(at) > width - 70;
    const place = { x: x(at) + (late ? -3 : 3), y: 12, class: "dim", "text-anchor": late ? "end" : "start" };
    svg.append(node("text", place, words(at)));
  }
}
function marks(lane, y) {
  // marks that fall on one pixel are drawn as one
  let last = -9, shown = null, count = 0;
  for (const [ns, span, colour, text] of lane.marks) {
    if (ns > to || ns + span < from) continue;
    const left = Math.max(x(ns), LEFT), right = Math.min(x(ns + span), width - 12);
    if (right - left < 3 && left - last < 1.5) {
      count += 1;
      shown.dataset.more = count;
      continue;
    }
    last = left;
    count = 0;
    const box = { x: left, y: y + 3, width: Math.max(right - left, 3), height: LANE - 8, fill: data.colours[colour] };
    shown = node("rect", box);
    const mine = shown;
    svg.append(hover(mine, ""));
    mine.addEventListener("pointermove", () => {
      const more = mine.dataset.more ? `\\n... and ${mine.dataset.more} more here` : "";
      tip.textContent = `${words(ns)}  ${text}${more}`;
    });
  }
}
function draw() {
  width = svg.clientWidth;
  svg.replaceChildren();
  const rows = data.hosts.reduce((sum, host) => sum + host.lanes.length + 1, 0);
  const height = TOP + rows * LANE + data.hosts.length * GAP;
  svg.setAttribute("height", height + 4);
  axis(height);
  let y = TOP;
  for (const host of data.hosts) {
    const top = y;
    svg.append(node("text", { x: 0, y: y + 15, class: "host" }, host.name));
    y += LANE;
    for (const lane of host.lanes) {
      svg.append(node("rect", { x: LEFT, y: y + 1, width: width - LEFT - 12, height: LANE - 4, fill: "var(--lane)" }));
      svg.append(node("text", { x: 12, y: y + 14 }, lane.name));
      marks(lane, y);
      y += LANE;
    }
    for (const [ns, kind, text] of host.changes) {
      if (ns < from || ns > to) continue;
      const place = { x1: x(ns), x2: x(ns), y1: top + 4, y2: y };
      svg.append(node("line", { ...place, stroke: "var(--fg)", "stroke-dasharray": "4 3", opacity: .75 }));
      svg.append(hover(node("line", { ...place, stroke: "transparent", "stroke-width": 7 }), `${words(ns)}  ${text}`));
    }
    y += GAP;
  }
  document.getElementById("range").textContent = `${words(from)} to ${words(to)}`;
}
function show(low, high) {
  const span = Math.min(Math.max(high - low, 50), END);
  from = Math.min(Math.max(low, 0), END - span);
  to = from + span;
  draw();
}
svg.addEventListener("wheel", event => {
  event.preventDefault();
  const share = (event.clientX - svg.getBoundingClientRect().left - LEFT) / (width - LEFT - 12);
  const at = from + Math.min(Math.max(share, 0), 1) * (to - from), factor = event.deltaY > 0 ? 1.25 : .8;
  show(at - (at - from) * factor, at + (to - at) * factor);
}, { passive: false });
let grabbed = null;
svg.addEventListener("pointerdown", event => { grabbed = [event.clientX, from, to]; });
addEventListener("pointerup", () => { grabbed = null; });
addEventListener("pointermove", event => {
  if (!grabbed) return;
  const [start, low, high] = grabbed, moved = (start - event.clientX) / (width - LEFT - 12) * (high - low);
  show(low + moved, high + moved);
});
document.getElementById("all").addEventListener("click", () => show(0, END));
for (const [name, colour] of data.key) {
  const made = document.createElement("span"), box = document.createElement("i");
  box.style.background = data.colours[colour];
  made.append(box, name);
  document.getElementById("key").append(made);
}
addEventListener("resize", draw);
draw();
</script>
</body>
</html>
"""
