// Small graphs of the statistics of the last minute, with one point per message and the newest at the right.

const SHOWN_S = 60;
const HEIGHT = 84;
const BASELINE = HEIGHT - 16;
const TOP = 6;
const RIGHT = 40;
const ROUND_STEPS = [1, 1.5, 2, 3, 4, 5, 6, 8, 10];
const CLASSES = ["first", "second", "third"];

const element = (name, attributes, text = "") => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
};

/** Rounds `value` up to the next round number. */
export const roundedUp = (value) => {
  const powerOfTen = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return powerOfTen * ROUND_STEPS.find((step) => step * powerOfTen >= value);
};

export class Graph {
  /** Draws into `svg` the values named in `lines`, the most important first; `bars` draws the first one as bars. The
      graph ends at `ceiling`, or above the largest value. */
  constructor(svg, lines, { bars = false, ceiling = null } = {}) {
    this.svg = svg;
    this.lines = lines;
    this.bars = bars;
    this.ceiling = ceiling;
    this.points = [];
    new ResizeObserver(() => this.draw()).observe(svg);
  }

  /** Adds one value per line at `time`, in seconds; null draws no point. */
  add(time, values) {
    this.points.push({ time, values });
    while (this.points[0].time < time - SHOWN_S) this.points.shift();
    this.draw();
  }

  draw() {
    const width = this.svg.clientWidth - RIGHT;
    if (width <= 0 || this.points.length === 0) return;
    const now = this.points.at(-1).time;
    const largest = Math.max(...this.points.flatMap(({ values }) => this.lines.map((name) => values[name] ?? 0)));
    const ceiling = this.ceiling ?? roundedUp(largest);
    const x = (time) => width * (1 - (now - time) / SHOWN_S);
    const y = (value) => BASELINE - (BASELINE - TOP) * (value / ceiling);
    this.svg.replaceChildren(...this.frame(width, ceiling), ...(this.bars ? this.columns(x, y) : this.curves(x, y)));
  }

  frame(width, ceiling) {
    const line = (height) => element("line", { class: "grid", x1: 0, x2: width, y1: height, y2: height });
    const label = (height, text) => element("text", { x: width + 6, y: height + 4 }, text);
    return [
      line(TOP), line(BASELINE), label(TOP, ceiling.toLocaleString("en")), label(BASELINE, "0"),
      element("text", { x: 0, y: HEIGHT }, "60 s ago"),
      element("text", { x: width, y: HEIGHT, "text-anchor": "end" }, "now"),
    ];
  }

  curves(x, y) {
    return this.lines.toReversed().flatMap((name) => {
      const points = this.points.filter(({ values }) => values[name] !== null);
      if (points.length === 0) return [];
      const path = points.map(({ time, values }) => `${x(time).toFixed(1)},${y(values[name]).toFixed(1)}`).join(" L");
      const curve = element("path", { class: CLASSES[this.lines.indexOf(name)], d: `M${path}` });
      if (name !== this.lines[0]) return [curve];
      const closed = `M${x(points[0].time)},${BASELINE} L${path} L${x(points.at(-1).time)},${BASELINE} Z`;
      return [element("path", { class: "area", d: closed }), curve];
    });
  }

  columns(x, y) {
    const [name] = this.lines;
    return this.points.slice(1).flatMap(({ time, values }, index) => {
      const left = x(this.points[index].time);
      if (!values[name]) return [];
      const top = y(values[name]);
      return [element("rect", { class: "bar", x: left + 0.5, width: Math.max(x(time) - left - 1, 1), y: top, height: BASELINE - top })];
    });
  }
}
