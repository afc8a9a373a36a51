// Figures of the last minute as small graphs: a point each time that figures come, the newest at the right.

const SECONDS = 60;
const HEIGHT = 84;
const BASE = HEIGHT - 16;
const TOP = 6;
const RIGHT = 40;
const NICE = [1, 1.5, 2, 3, 4, 5, 6, 8, 10];

const element = (name, attributes, text = "") => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
};

/** The smallest round number that is not below `value`. */
export const roundedUp = (value) => {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return power * NICE.find((step) => step * power >= value);
};

export class Graph {
  /** `lines` are the names of what is drawn, the most important first; `bars` draws the first as bars. */
  constructor(svg, lines, { bars = false } = {}) {
    this.svg = svg;
    this.lines = lines;
    this.bars = bars;
    this.points = [];
    new ResizeObserver(() => this.draw()).observe(svg);
  }

  /** Takes the values of one moment, `time` in seconds; null where there is none. */
  add(time, values) {
    this.points.push({ time, values });
    while (this.points[0].time < time - SECONDS) this.points.shift();
    this.draw();
  }

  draw() {
    const width = this.svg.clientWidth - RIGHT;
    if (width <= 0 || this.points.length === 0) return;
    const now = this.points.at(-1).time;
    const largest = Math.max(...this.points.flatMap(({ values }) => this.lines.map((name) => values[name] ?? 0)));
    const ceiling = roundedUp(largest);
    const x = (time) => width * (1 - (now - time) / SECONDS);
    const y = (value) => BASE - (BASE - TOP) * (value / ceiling);
    this.svg.replaceChildren(...this.frame(width, ceiling), ...(this.bars ? this.columns(x, y) : this.curves(x, y)));
  }

  frame(width, ceiling) {
    const line = (height) => element("line", { class: "grid", x1: 0, x2: width, y1: height, y2: height });
    const label = (height, text) => element("text", { x: width + 6, y: height + 4 }, text);
    return [
      line(TOP), line(BASE), label(TOP, ceiling.toLocaleString("en")), label(BASE, "0"),
      element("text", { x: 0, y: HEIGHT }, "60 s ago"),
      element("text", { x: width, y: HEIGHT, "text-anchor": "end" }, "now"),
    ];
  }

  curves(x, y) {
    return this.lines.toReversed().flatMap((name) => {
      const known = this.points.filter(({ values }) => values[name] !== null);
      if (known.length === 0) return [];
      const path = known.map(({ time, values }) => `${x(time).toFixed(1)},${y(values[name]).toFixed(1)}`).join(" L");
      const curve = element("path", { class: name === this.lines[0] ? "first" : "second", d: `M${path}` });
      if (name !== this.lines[0]) return [curve];
      const closed = `M${x(known[0].time)},${BASE} L${path} L${x(known.at(-1).time)},${BASE} Z`;
      return [element("path", { class: "area", d: closed }), curve];
    });
  }

  columns(x, y) {
    const [name] = this.lines;
    return this.points.slice(1).flatMap(({ time, values }, index) => {
      const left = x(this.points[index].time);
      if (!values[name]) return [];
      const top = y(values[name]);
      return [element("rect", { class: "bar", x: left + 0.5, width: Math.max(x(time) - left - 1, 1), y: top, height: BASE - top })];
    });
  }
}
