// The picture: one or two panes that show a frame before and after upscaling, with a common zoom, position and boundary.

const MIN_HEIGHT = 240;
const WINDOW_SHARE = 0.66;
const STACKED_BELOW = 640;
const GRIP_RADIUS = 24;
const MIN_TAGGED = 60;
const KEY_STEP = 48;
const TINT = "rgb(0 200 140 / 35%)";
const ZOOMS = ["fit", "1", "2", "4"];

const element = (name, className, parent) => {
  const node = document.createElement(name);
  node.className = className;
  parent.append(node);
  return node;
};
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** The input of the network and the output of one engine, with a boundary between them. */
class Pane {
  constructor(box) {
    this.box = box;
    this.view = element("div", "view", box);
    this.after = element("canvas", "after", this.view);
    this.before = element("canvas", "before", this.view);
    this.beforeTag = element("span", "tag before-tag", this.view);
    this.beforeTag.textContent = "Input";
    this.afterTag = element("span", "tag after-tag", this.view);
    this.divider = element("div", "divider", this.view);
    element("span", "grip", this.divider);
  }

  /** `tinted` are parts of the input, [x, y, width, height], that are tinted in the output. */
  draw(before, after, isSmooth, tinted) {
    const { width, height } = after;
    for (const canvas of [this.before, this.after]) {
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    }
    const output = this.after.getContext("2d");
    output.drawImage(after, 0, 0);
    const scale = width / before.width;
    const parts = new Path2D(); // one path: where tiles overlap, the tint is not applied twice
    for (const part of tinted) parts.rect(...part.map((value) => value * scale));
    output.fillStyle = TINT;
    output.fill(parts);
    const context = this.before.getContext("2d");
    context.imageSmoothingEnabled = isSmooth;
    context.imageSmoothingQuality = "high";
    context.drawImage(before, 0, 0, width, height);
  }

  /** Places the image; `center` is the point of the image, from 0 to 1, in the middle of the pane. */
  place(zoom, center, share) {
    const { width, height } = this.after;
    const { clientWidth, clientHeight } = this.box;
    const scale = zoom === "fit" ? Math.min(clientWidth / width, clientHeight / height) : Number(zoom) / devicePixelRatio;
    this.size = { width: width * scale, height: height * scale };
    const visible = { width: Math.min(this.size.width, clientWidth), height: Math.min(this.size.height, clientHeight) };
    this.range = { x: this.size.width - visible.width, y: this.size.height - visible.height };
    const onPixel = (value) => Math.round(value * devicePixelRatio) / devicePixelRatio;
    const left = -onPixel(clamp(center.x * this.size.width - visible.width / 2, 0, this.range.x));
    const top = -onPixel(clamp(center.y * this.size.height - visible.height / 2, 0, this.range.y));
    Object.assign(this.view.style, { width: `${visible.width}px`, height: `${visible.height}px` });
    const box = { left: `${left}px`, top: `${top}px`, width: `${this.size.width}px`, height: `${this.size.height}px` };
    for (const canvas of [this.before, this.after]) Object.assign(canvas.style, box);
    const boundary = share * visible.width;
    this.before.style.clipPath = `inset(0 ${this.size.width + left - boundary}px 0 0)`;
    this.divider.style.left = `${100 * share}%`;
    this.view.classList.toggle("pixelated", zoom !== "fit");
    this.view.classList.toggle("movable", this.isMovable);
    this.beforeTag.classList.toggle("covered", boundary < MIN_TAGGED);
    this.afterTag.classList.toggle("covered", visible.width - boundary < MIN_TAGGED);
  }

  get isMovable() {
    return this.range.x > 0.5 || this.range.y > 0.5;
  }
}

export class Picture {
  /** `inputs` has the radio buttons of zoom and interpolation; `slider` is the boundary between input and output. */
  constructor({ player, stage, slider, boxes }) {
    Object.assign(this, { player, stage, slider, frame: null, center: { x: 0.5, y: 0.5 }, isTinted: false });
    this.panes = boxes.map((box) => new Pane(box));
    this.panes[0].view.id = "view";
    slider.addEventListener("input", () => this.layout());
    stage.addEventListener("keydown", (event) => this.moveByKey(event));
    for (const pane of this.panes) pane.view.addEventListener("pointerdown", (event) => this.drag(event, pane));
    for (const input of document.querySelectorAll('input[name="zoom"]')) input.addEventListener("change", () => this.layout());
    for (const input of document.querySelectorAll('input[name="interpolation"]')) input.addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.layout()).observe(player);
    addEventListener("resize", () => this.layout());
  }

  /** Shows a frame: the image `before`, and one image in `afters` for each label in `labels` and list in `reused`. */
  show(frame) {
    const before = this.frame;
    this.frame = frame;
    this.draw();
    before?.close();
    const shape = ({ afters }) => afters.map(({ width, height }) => `${width}x${height}`).join();
    const labels = frame.labels.join();
    if (!before || shape(before) !== shape(frame) || this.labels !== labels) this.layout();
    this.labels = labels;
  }

  draw() {
    if (!this.frame) return;
    const isSmooth = this.selected("interpolation") === "smooth";
    this.panes.forEach((pane, index) => {
      const after = this.frame.afters[index];
      pane.box.hidden = !after;
      if (!after) return;
      pane.draw(this.frame.before, after, isSmooth, this.isTinted ? this.frame.reused[index] : []);
      pane.afterTag.textContent = this.frame.labels[index];
    });
  }

  layout() {
    if (!this.frame) return;
    const { width, height } = this.frame.afters[0];
    const shown = this.panes.filter((pane) => !pane.box.hidden);
    const isStacked = shown.length > 1 && this.player.clientWidth < STACKED_BELOW;
    this.stage.dataset.panes = isStacked ? "rows" : shown.length > 1 ? "columns" : "one";
    const columns = isStacked ? 1 : shown.length;
    const wanted = (this.stage.clientWidth / columns) * (height / width) * (isStacked ? shown.length : 1);
    const limit = Math.max(innerHeight * WINDOW_SHARE, MIN_HEIGHT) * (isStacked ? 1.2 : 1);
    this.stage.style.height = document.fullscreenElement ? "" : `${Math.round(Math.min(wanted, limit))}px`;
    const share = this.slider.value / this.slider.max;
    for (const pane of shown) pane.place(this.zoom, this.center, share);
    this.slider.setAttribute("aria-valuetext", `${Math.round(100 * share)} % input`);
  }

  selected(name) {
    return document.querySelector(`input[name="${name}"]:checked`).value;
  }

  get zoom() {
    return this.selected("zoom");
  }

  set zoom(value) {
    const input = document.querySelector(`input[name="zoom"][value="${value}"]`);
    if (!input) return;
    input.checked = true;
    this.layout();
  }

  zoomBy(steps) {
    this.zoom = ZOOMS[clamp(ZOOMS.indexOf(this.zoom) + steps, 0, ZOOMS.length - 1)];
  }

  /** Moves the image by CSS pixels, within its borders. */
  move(x, y) {
    const { size, range } = this.panes[0];
    const moved = (center, by, length, free) => {
      const half = (length - free) / 2 / length;
      return free > 0 ? clamp(clamp(center, half, 1 - half) - by / length, half, 1 - half) : center;
    };
    this.center.x = moved(this.center.x, x, size.width, range.x);
    this.center.y = moved(this.center.y, y, size.height, range.y);
    this.layout();
  }

  moveByKey(event) {
    const direction = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (event.target !== this.stage || !direction || !this.frame || !this.panes[0].isMovable) return;
    event.preventDefault();
    this.move(KEY_STEP * direction[0], KEY_STEP * direction[1]);
  }

  /** Moves the enlarged image with the pointer, or the boundary if the pointer is near it or all of the image is visible. */
  drag(event, pane) {
    if (event.button !== 0) return;
    const box = pane.view.getBoundingClientRect();
    const divider = box.left + (this.slider.value / this.slider.max) * box.width;
    const isBoundary = !pane.isMovable || Math.abs(event.clientX - divider) < GRIP_RADIUS;
    let last = { x: event.clientX, y: event.clientY };
    const follow = ({ clientX, clientY }) => {
      if (isBoundary) {
        this.slider.value = (this.slider.max * (clientX - box.left)) / box.width;
        this.layout();
      } else {
        this.move(clientX - last.x, clientY - last.y);
      }
      last = { x: clientX, y: clientY };
    };
    const stop = new AbortController();
    pane.view.setPointerCapture(event.pointerId);
    pane.view.addEventListener("pointermove", follow, { signal: stop.signal });
    for (const end of ["pointerup", "pointercancel"]) pane.view.addEventListener(end, () => stop.abort(), { signal: stop.signal });
    follow(event);
  }
}
