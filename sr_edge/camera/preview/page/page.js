// The page of `sr-edge preview`: requests a frame when it has drawn the previous one, and shows it before and after.

import { Graph } from "./graphs.js";

const RETRY_MS = 2000;
const REFUSED = 4403;
const RUNTIME_NAMES = {
  torch: "PyTorch", onnxruntime: "ONNX Runtime", openvino: "OpenVINO", tensorrt: "TensorRT", "tensorrt-rtx": "TensorRT-RTX",
};
const STATE_NAMES = { live: "Live", ended: "Ended", failed: "Failed", lost: "No connection" };

const byId = (id) => document.getElementById(id);
const view = byId("view");
const stage = byId("stage");
const slider = byId("slider");
const canvases = { before: byId("before"), after: byId("after") };
const graphs = {
  rate: new Graph(document.querySelector("#rate svg"), ["out", "in"]),
  latency: new Graph(document.querySelector("#latency svg"), ["p50", "p95"]),
  dropped: new Graph(document.querySelector("#dropped svg"), ["dropped"], { bars: true }),
};
let streamInfo = null;
let newestPair = null;
let previousStatistics = null;
let drawnFrames = 0;

// The images

/** Decodes a pair: the length of a JSON header (4 bytes, big-endian), the header, and two JPEG images. */
async function decodePair(buffer) {
  const length = new DataView(buffer).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const start = 4 + length;
  const middle = start + header.before[2];
  const decode = (from, to) => createImageBitmap(new Blob([buffer.slice(from, to)], { type: "image/jpeg" }));
  const [before, after] = await Promise.all([decode(start, middle), decode(middle, buffer.byteLength)]);
  return { header, before, after };
}

function draw() {
  if (!newestPair) return;
  const { header, before, after } = newestPair;
  const [width, height] = header.after;
  for (const canvas of Object.values(canvases)) {
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  }
  canvases.after.getContext("2d").drawImage(after, 0, 0);
  const context = canvases.before.getContext("2d");
  context.imageSmoothingEnabled = selected("interpolation") === "smooth";
  context.imageSmoothingQuality = "high";
  context.drawImage(before, 0, 0, width, height);
  document.documentElement.dataset.frames = ++drawnFrames;
  document.documentElement.dataset.engine = header.engine;
}

function showPair(pair) {
  const hasSameSize = newestPair && String(newestPair.header.after) === String(pair.header.after);
  newestPair?.before.close();
  newestPair?.after.close();
  newestPair = pair;
  draw();
  if (hasSameSize && !view.hidden) return;
  view.hidden = false;
  byId("waiting").hidden = true;
  resizeView();
  showStreamInfo();
}

const selected = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

function resizeView() {
  if (!newestPair) return;
  const [width, height] = newestPair.header.after;
  const zoom = selected("zoom");
  const fit = Math.min(stage.clientWidth / width, Math.max(innerHeight * 0.66, 240) / height);
  const scale = zoom === "fit" ? fit : Number(zoom) / devicePixelRatio;
  view.style.width = `${Math.round(width * scale)}px`;
  view.style.height = `${Math.round(height * scale)}px`;
  view.classList.toggle("pixelated", zoom !== "fit");
}

function moveDivider() {
  const share = slider.value / slider.max;
  byId("divider").style.left = `${100 * share}%`;
  canvases.before.style.clipPath = `inset(0 ${100 * (1 - share)}% 0 0)`;
  byId("tag-before").classList.toggle("covered", share < 0.12);
  byId("tag-after").classList.toggle("covered", share > 0.88);
  slider.setAttribute("aria-valuetext", `${Math.round(100 * share)} % before`);
}

// The messages of the server

function showStreamInfo() {
  if (!streamInfo) return;
  const size = newestPair
    ? `${newestPair.header.before.slice(0, 2).join(" × ")} → ${newestPair.header.after.slice(0, 2).join(" × ")}`
    : `× ${streamInfo.scale}`;
  const text = [streamInfo.source, streamInfo.model, size, `policy ${streamInfo.policy}`].join("  ·  ");
  byId("stream-info").textContent = text;
  byId("stream-info").title = text;
}

function listEngines(socket) {
  const labelsByRuntime = new Map();
  for (const label of streamInfo.engines) {
    const [runtime, precision] = label.split(" ");
    labelsByRuntime.set(runtime, [...(labelsByRuntime.get(runtime) ?? []), { label, precision }]);
  }
  const groups = [...labelsByRuntime].map(([runtime, engines]) => {
    const group = document.createElement("div");
    group.className = "engine";
    const name = document.createElement("span");
    name.textContent = RUNTIME_NAMES[runtime] ?? runtime;
    const buttons = document.createElement("div");
    buttons.className = "segments";
    buttons.append(...engines.map((engine) => engineButton(engine, `${name.textContent} ${engine.precision}`, socket)));
    group.append(name, buttons);
    return group;
  });
  byId("engines").replaceChildren(byId("engines").firstElementChild, ...groups);
}

function engineButton({ label, precision }, title, socket) {
  const button = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "radio", name: "engine", value: label });
  input.setAttribute("aria-label", title);
  input.addEventListener("change", () => {
    button.classList.add("loading");
    socket.send(JSON.stringify({ engine: label }));
  });
  const text = document.createElement("span");
  text.textContent = precision.toUpperCase();
  button.append(input, text);
  return button;
}

function showEngine({ engine, loading }) {
  for (const input of document.querySelectorAll('input[name="engine"]')) {
    input.checked = input.value === (loading ?? engine);
    input.parentElement.classList.toggle("loading", input.value === loading);
  }
}

const formatNumber = (value, digits = 0) =>
  value === null ? "–" : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

function setCard(card, value, details) {
  document.querySelector(`#${card} b`).textContent = value;
  document.querySelector(`#${card} .figure span`).textContent = details;
}

function showStatistics(statistics) {
  const { seconds, dropped, failed, problem } = statistics;
  const newlyDropped = previousStatistics ? Math.max(0, dropped - previousStatistics.dropped) : 0;
  const elapsed = previousStatistics ? seconds - previousStatistics.seconds : 0;
  previousStatistics = statistics;
  setCard("rate", formatNumber(statistics.fps_out, 1), `of ${formatNumber(statistics.fps_in, 1)}`);
  setCard("latency", statistics.p50_ms === null ? "–" : `${formatNumber(statistics.p50_ms)} ms`,
    `95 % below ${formatNumber(statistics.p95_ms)} ms, model ${formatNumber(statistics.model_ms)} ms`);
  const percentage = statistics.frames_in ? (100 * dropped) / statistics.frames_in : 0;
  const failures = failed ? `, ${formatNumber(failed)} failed` : "";
  setCard("dropped", formatNumber(dropped),
    `${formatNumber(percentage, 1)} % of ${formatNumber(statistics.frames_in)}${failures}`);
  const isLive = statistics.state === "live";
  if (isLive) {
    graphs.rate.add(seconds, { in: statistics.fps_in, out: statistics.fps_out });
    graphs.latency.add(seconds, { p50: statistics.p50_ms, p95: statistics.p95_ms });
    graphs.dropped.add(seconds, { dropped: elapsed > 0 ? newlyDropped / elapsed : 0 });
  }
  showEngine(statistics);
  showState(statistics.state, isLive ? problem : statistics.state === "failed" ? statistics.reason : "");
}

function showState(state, notice) {
  byId("state").dataset.state = state;
  byId("state-text").textContent = STATE_NAMES[state];
  byId("notice").textContent = notice;
  byId("notice").hidden = !notice;
}

// The connection

function connect() {
  const socket = new WebSocket(`ws${location.protocol.slice(4)}//${location.host}/live${location.search}`);
  socket.binaryType = "arraybuffer";
  const requestFrame = () => socket.readyState === WebSocket.OPEN && socket.send('{"request": "frame"}');
  socket.addEventListener("open", requestFrame);
  socket.addEventListener("message", async ({ data }) => {
    if (data instanceof ArrayBuffer) {
      showPair(await decodePair(data));
      requestAnimationFrame(requestFrame);
      return;
    }
    const message = JSON.parse(data);
    if (message.kind === "statistics") {
      showStatistics(message);
      return;
    }
    streamInfo = message;
    showStreamInfo();
    listEngines(socket);
  });
  socket.addEventListener("close", ({ code, reason }) => {
    showState("lost", reason || "The connection to sr-edge is lost. Is it still running?");
    if (code !== REFUSED) setTimeout(connect, RETRY_MS);
  });
}

slider.addEventListener("input", moveDivider);
for (const input of document.querySelectorAll('input[name="interpolation"]')) input.addEventListener("change", draw);
for (const input of document.querySelectorAll('input[name="zoom"]')) input.addEventListener("change", resizeView);
new ResizeObserver(resizeView).observe(stage);
addEventListener("resize", resizeView);
moveDivider();
connect();
