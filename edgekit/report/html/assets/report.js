"use strict";
// Draws the figures of an edgekit report with Observable Plot. Data come from a JSON block and are only ever text and
// numbers to Plot; nothing here builds HTML from strings, and nothing is evaluated.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const colour = (index) => `var(--series-${index % 6})`;
  // Colour alone must not tell lines apart.
  const dash = (index) => ["", "6 3", "2 3", "8 3 2 3", "12 4", "1 4"][index % 6];
  const narrow = (width) => width < 480;
  const clip = (name, width) => {
    const most = Math.max(12, Math.round(width / 18));
    return name.length <= most ? name : `${name.slice(0, most / 2)}…${name.slice(name.length - most / 2)}`;
  };

  const LETTER = 6.8; // pixels, of a 12 px label, at most on average
  const margin = (names, width) =>
    Math.min(width * 0.5, 16 + LETTER * Math.max(...names.map((name) => clip(name, width).length)));

  // Labels beside their dots that cover neither each other nor a dot: each takes the free line nearest to its own.
  const placed = (points, label, x, y) => {
    const taken = points.map((point) => ({ left: x(point) - 7, right: x(point) + 7, y: y(point) }));
    return points.map((point) => {
      const [left, top] = [x(point) + 9, y(point)];
      const right = left + LETTER * label(point).length;
      const free = (dy) => !taken.some((box) => left < box.right && box.left < right && Math.abs(top + dy - box.y) < 13);
      const dy = [0, 14, -14, 28, -28, 42, -42, 56, 70, 84].find(free) ?? 98;
      taken.push({ left, right, y: top + dy });
      return { ...point, dy };
    });
  };

  const base = (width) => ({
    width,
    height: Math.round(Math.max(220, Math.min(360, width * 0.55))),
    marginLeft: 56,
    marginBottom: 40,
    style: { background: "none", fontFamily: "inherit", fontSize: "12px", color: "inherit", overflow: "visible" },
  });
  const flat = (lines) =>
    lines.flatMap((line, index) => line.points.map(([x, y]) => ({ x, y, name: line.name, index })));
  const strokes = (lines) =>
    lines.map((line, index) =>
      Plot.line(line.points, {
        x: "0", y: "1", stroke: colour(index), strokeWidth: 2, strokeDasharray: dash(index), clip: true,
      }));
  const tip = (lines, text) =>
    Plot.tip(flat(lines), Plot.pointer({ x: "x", y: "y", title: text, fill: "var(--card)", textPadding: 6 }));

  const draw = {
    distribution: (data, width) => {
      const lowest = Math.min(...data.lines.map((line) => line.points[0][0]));
      return Plot.plot({
        ...base(width),
        x: { label: `latency (${data.unit}) →`, domain: [lowest, data.limit], grid: true, ticks: Math.round(width / 90) },
        y: { label: "↑ share of runs", domain: [0, 1], tickFormat: (v) => `${Math.round(v * 100)} %`, ticks: 5, grid: true },
        marks: [
          Plot.ruleY([0.5], { stroke: "currentColor", strokeOpacity: 0.5, strokeDasharray: "2 2" }),
          ...strokes(data.lines),
          tip(data.lines, (d) => `${d.name}\n${(d.y * 100).toFixed(1)} % of runs ≤ ${d.x} ${data.unit}`),
        ],
      });
    },
    series: (data, width) =>
      Plot.plot({
        ...base(width),
        x: { label: `${data.x} →`, ticks: Math.round(width / 90) },
        y: { label: `↑ ${data.y}`, grid: true, nice: true, ticks: 5 },
        marks: [...strokes(data.lines), tip(data.lines, (d) => `${d.name}\n${data.x} ${d.x}\n${d.y} ${data.unit}`)],
      }),
    intervals: (data, width) =>
      Plot.plot({
        ...base(width),
        height: 60 + 26 * data.points.length,
        marginLeft: margin(data.points.map((d) => d.name), width),
        x: { label: `median latency (${data.unit}) →`, grid: true, zero: true, ticks: Math.round(width / 110) },
        y: { label: null, domain: data.points.map((d) => d.name), tickFormat: (name) => clip(name, width) },
        marks: [
          Plot.ruleY(data.points.filter((d) => d.low !== undefined), {
            y: "name", x1: "low", x2: "high", strokeWidth: 3, stroke: (d) => (d.picked ? "var(--accent)" : "var(--muted)"),
          }),
          Plot.dot(data.points, {
            y: "name", x: "value", r: 5, fill: (d) => (d.picked ? "var(--accent)" : "var(--muted)"),
          }),
        ],
      }),
    scatter: (data, width) => {
      const label = (d) => (d.picked ? `${clip(d.name, width)} ◀` : clip(d.name, width));
      const shown = data.points.filter((d) => d.picked || !narrow(width));
      const plot = (labels) =>
        Plot.plot({
          ...base(width),
          marginRight: narrow(width) ? 12 : 190,
          marginTop: 28,
          x: { label: `median latency (${data.unit}) →`, grid: true, nice: true, ticks: Math.round(width / 110) },
          y: { label: `↑ ${data.y}`, grid: true, nice: true, ticks: 5, inset: 24 },
          marks: [
            ...labels.map((d) =>
              Plot.text([d], {
                x: "x", y: "y", text: label, dx: 9, dy: d.dy, textAnchor: "start",
                fill: "currentColor", stroke: "var(--card)",
              })),
            Plot.dot(data.points, {
              x: "x", y: "y", r: 6, symbol: (d) => (d.picked ? "star" : "circle"),
              fill: (d) => (d.picked ? "var(--accent)" : "var(--muted)"),
            }),
            Plot.tip(data.points, Plot.pointer({
              x: "x", y: "y", fill: "var(--card)", title: (d) => `${d.name}\n${d.x} ${data.unit}\n${data.y} ${d.y}`,
            })),
          ],
        });
      const [x, y] = ["x", "y"].map((name) => plot([]).scale(name));
      return plot(placed(shown, label, (d) => x.apply(d.x), (d) => y.apply(d.y)));
    },
    bars: (data, width) =>
      Plot.plot({
        ...base(width),
        height: 50 + 22 * data.rows.length,
        marginLeft: margin(data.rows.map((d) => d.name), width),
        x: { label: `${data.unit} →`, grid: true, ticks: Math.round(width / 110) },
        y: { label: null, domain: data.rows.map((d) => d.name), tickFormat: (name) => clip(name, width) },
        marks: [Plot.barX(data.rows, { y: "name", x: "value", fill: "var(--accent)", insetTop: 2, insetBottom: 2 })],
      }),
    roofline: (data, width) => {
      const xs = data.points.map((d) => d.x);
      const bend = data.peak / data.bandwidths[0];
      const ends = [Math.min(bend / 10, ...xs) * 0.7, Math.max(bend * 10, ...xs) * 1.4];
      const roof = (bandwidth) =>
        [ends[0], data.peak / bandwidth, ends[1]].map((x) => ({ x, y: Math.min(data.peak, x * bandwidth) }));
      return Plot.plot({
        ...base(width),
        x: { type: "log", label: "MACs a byte →", domain: ends, grid: true, ticks: Math.round(width / 110) },
        y: { type: "log", label: "↑ GMAC/s", grid: true, ticks: 5 },
        marks: [
          Plot.line(roof(data.bandwidths[0]), { x: "x", y: "y", stroke: "currentColor", strokeWidth: 2 }),
          Plot.line(roof(data.bandwidths[1]), {
            x: "x", y: "y", stroke: "currentColor", strokeWidth: 2, strokeDasharray: "5 4", clip: true,
          }),
          Plot.dot(data.points.map((d) => ({ ...d, r: 3 + 12 * Math.sqrt(d.share) })), {
            x: "x", y: "y", r: { value: "r", scale: null }, fill: "var(--accent)", fillOpacity: 0.6, stroke: "var(--accent)",
          }),
          Plot.tip(data.points, Plot.pointer({
            x: "x", y: "y", fill: "var(--card)",
            title: (d) => `${d.name}\n${d.y.toPrecision(3)} GMAC/s\n${(100 * d.share).toFixed(1)} % of the time`,
          })),
        ],
      });
    },
  };

  const legend = (data) => {
    const list = document.createElement("ul");
    list.className = "legend";
    data.lines.forEach((line, index) => {
      const item = document.createElement("li");
      const mark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      mark.setAttribute("width", "28");
      mark.setAttribute("height", "10");
      mark.setAttribute("aria-hidden", "true");
      const stroke = document.createElementNS("http://www.w3.org/2000/svg", "line");
      for (const [name, value] of Object.entries({ x1: 0, x2: 28, y1: 5, y2: 5 })) stroke.setAttribute(name, value);
      stroke.style.cssText = `stroke:${colour(index)};stroke-width:3;stroke-dasharray:${dash(index) || "none"}`;
      mark.append(stroke);
      item.append(mark, line.name);
      list.append(item);
    });
    return list;
  };

  for (const figure of figures) {
    const place = document.getElementById(figure.id);
    let drawn = 0;
    const show = () => {
      const width = Math.floor(place.clientWidth);
      if (!width || width === drawn) return;
      drawn = width;
      const plot = draw[figure.kind](figure.data, width);
      plot.setAttribute("aria-hidden", "true"); // the place has a role and a text of its own
      place.replaceChildren(plot);
    };
    show();
    place.closest("figure").classList.add("drawn");
    if (figure.data.lines && figure.data.lines.length > 1) place.before(legend(figure.data));
    new ResizeObserver(show).observe(place);
  }
})();
