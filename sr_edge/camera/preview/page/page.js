// The page of `sr-edge preview`: asks for a frame when it has drawn the last, and draws it before and after.

import { Graph } from "./graphs.js";

const RETRY_MS = 2000;
const REFUSED = 4403;
const NAMES = {
  torch: "PyTorch", onnxruntime: "ONNX Runtime", openvino: "OpenVINO", tensorrt: "TensorRT", "tensorrt-rtx": "TensorRT-RTX",
};
const STATES = { live: "Live", ended: "Ended", failed: "Failed", lost: "No connection" };

const find = (id) => document.getElementById(id);
const view = find("view");
const stage = find("stage");
const slider = find("slider");
const canvases = { before: find("before"), after: find("after") };
const graphs = {
  rate: new Graph(document.querySelector("#rate svg"), ["out", "in"]),
  latency: new Graph(document.querySelector("#latency svg"), ["p50", "p95"]),
  dropped: new Graph(document.querySelector("#dropped svg"), ["dropped"], { bars: true }),
};
let stream_info = null;
let newest = null;
let earlier = null;
let drawn = 0;

// The pictures

async function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const start = 4 + length;
  const middle = start + header.before[2];
  const picture = (from, to) => createImageBitmap(new Blob([buffer.slice(from, to)], { type: "image/jpeg" }));
  const [before, after] = await Promise.all([picture(start, middle), picture(middle, buffer.byteLength)]);
  return { header, before, after };
}

function draw() {
  if (!newest) return;
  const { header, before, after } = newest;
  const [width, height] = header.after;
  for (const canvas of Object.values(canvases)) {
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  }
  canvases.after.getContext("2d").drawImage(after, 0, 0);
  const context = canvases.before.getContext("2d");
  context.imageSmoothingEnabled = chosen("enlarge") === "smooth";
  context.imageSmoothingQuality = "high";
  context.drawImage(before, 0, 0, width, height);
  document.documentElement.dataset.frames = ++drawn;
  document.documentElement.dataset.madeBy = header.made_by;
}

function show(pictures) {
  const sized = newest && String(newest.header.after) === String(pictures.header.after);
  newest?.before.close();
  newest?.after.close();
  newest = pictures;
  draw();
  if (sized && !view.hidden) return;
  view.hidden = false;
  find("waiting").hidden = true;
  layOut();
  tellFacts();
}

const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

function layOut() {
  if (!newest) return;
  const [width, height] = newest.header.after;
  const size = chosen("size");
  const fit = Math.min(stage.clientWidth / width, Math.max(innerHeight * 0.66, 240) / height);
  const scale = size === "fit" ? fit : Number(size) / devicePixelRatio;
  view.style.width = `${Math.round(width * scale)}px`;
  view.style.height = `${Math.round(height * scale)}px`;
  view.classList.toggle("pixelated", size !== "fit");
}

function divide() {
  const share = slider.value / slider.max;
  find("divider").style.left = `${100 * share}%`;
  canvases.before.style.clipPath = `inset(0 ${100 * (1 - share)}% 0 0)`;
  find("tag-before").classList.toggle("covered", share < 0.12);
  find("tag-after").classList.toggle("covered", share > 0.88);
  slider.setAttribute("aria-valuetext", `${Math.round(100 * share)} % before`);
}

// What the server says

function tellFacts() {
  if (!stream_info) return;
  const size = newest
    ? `${newest.header.before.slice(0, 2).join(" × ")} → ${newest.header.after.slice(0, 2).join(" × ")}`
    : `× ${stream_info.scale}`;
  find("facts").textContent = [stream_info.source, stream_info.model, size, `policy ${stream_info.policy}`].join("  ·  ");
  find("facts").title = find("facts").textContent;
}

function offerEngines(socket) {
  const groups = new Map();
  for (const label of stream_info.choices) {
    const [runtime, precision] = label.split(" ");
    groups.set(runtime, [...(groups.get(runtime) ?? []), { label, precision }]);
  }
  const made = [...groups].map(([runtime, offered]) => {
    const group = document.createElement("div");
    group.className = "engine";
    const name = document.createElement("span");
    name.textContent = NAMES[runtime] ?? runtime;
    const segments = document.createElement("div");
    segments.className = "segments";
    segments.append(...offered.map((choice) => engineButton(choice, `${name.textContent} ${choice.precision}`, socket)));
    group.append(name, segments);
    return group;
  });
  find("engines").replaceChildren(find("engines").firstElementChild, ...made);
}

function engineButton({ label, precision }, title, socket) {
  const button = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "radio", name: "engine", value: label });
  input.setAttribute("aria-label", title);
  input.addEventListener("change", () => {
    button.classList.add("loading");
    socket.send(JSON.stringify({ use: label }));
  });
  const text = document.createElement("span");
  text.textContent = precision.toUpperCase();
  button.append(input, text);
  return button;
}

function tellEngine({ running, loading, problem }) {
  for (const input of document.querySelectorAll('input[name="engine"]')) {
    input.checked = input.value === (loading ?? running);
    input.parentElement.classList.toggle("loading", input.value === loading);
  }
  return problem;
}

const number = (value, digits = 0) =>
  value === null ? "–" : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

function tell(card, figure, rest) {
  document.querySelector(`#${card} b`).textContent = figure;
  document.querySelector(`#${card} .figure span`).textContent = rest;
}

function tellFigures(figures) {
  const dropped = earlier ? Math.max(0, figures.dropped - earlier.dropped) : 0;
  const passed = earlier ? figures.seconds - earlier.seconds : 0;
  earlier = figures;
  tell("rate", number(figures.fps_out, 1), `of ${number(figures.fps_in, 1)}`);
  tell("latency", figures.p50_ms === null ? "–" : `${number(figures.p50_ms)} ms`,
    `95 % below ${number(figures.p95_ms)} ms, model ${number(figures.model_ms)} ms`);
  const share = figures.frames_in ? (100 * figures.dropped) / figures.frames_in : 0;
  const failed = figures.failed ? `, ${number(figures.failed)} failed` : "";
  tell("dropped", number(figures.dropped), `${number(share, 1)} % of ${number(figures.frames_in)}${failed}`);
  const live = figures.state === "live";
  if (live) {
    graphs.rate.add(figures.seconds, { in: figures.fps_in, out: figures.fps_out });
    graphs.latency.add(figures.seconds, { p50: figures.p50_ms, p95: figures.p95_ms });
    graphs.dropped.add(figures.seconds, { dropped: passed > 0 ? dropped / passed : 0 });
  }
  const problem = tellEngine(figures);
  tellState(figures.state, live ? problem : figures.state === "failed" ? figures.reason : "");
}

function tellState(state, notice) {
  find("state").dataset.state = state;
  find("state-text").textContent = STATES[state];
  find("notice").textContent = notice;
  find("notice").hidden = !notice;
}

// The connection

function connect() {
  const socket = new WebSocket(`ws${location.protocol.slice(4)}//${location.host}/live${location.search}`);
  socket.binaryType = "arraybuffer";
  const want = () => socket.readyState === WebSocket.OPEN && socket.send('{"want": "frame"}');
  socket.addEventListener("open", want);
  socket.addEventListener("message", async ({ data }) => {
    if (data instanceof ArrayBuffer) {
      show(await unpack(data));
      requestAnimationFrame(want);
      return;
    }
    const said = JSON.parse(data);
    if (said.kind === "figures") {
      tellFigures(said);
      return;
    }
    stream_info = said;
    tellFacts();
    offerEngines(socket);
  });
  socket.addEventListener("close", ({ code, reason }) => {
    tellState("lost", reason || "The connection to sr-edge is lost. Is it still running?");
    if (code !== REFUSED) setTimeout(connect, RETRY_MS);
  });
}

slider.addEventListener("input", divide);
for (const input of document.querySelectorAll('input[name="enlarge"]')) input.addEventListener("change", draw);
for (const input of document.querySelectorAll('input[name="size"]')) input.addEventListener("change", layOut);
new ResizeObserver(layOut).observe(stage);
addEventListener("resize", layOut);
divide();
connect();
