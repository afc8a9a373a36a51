// The page of `sr-edge preview`: requests a frame when it has drawn the previous one, and shows it before and after.

import { EngineControls, engineName } from "./engines.js";
import { Graph } from "./graphs.js";
import { Picture } from "./picture.js";
import { NetworkSettings } from "./settings.js";

const RETRY_MS = 2000;
const REFUSED = 4403;
const WAITING_MS = 2000;
const TICK_MS = 500;
const SHOWN_MS = 4000;
const STATE_NAMES = { live: "Live", ended: "Ended", failed: "Failed", lost: "No connection" };
const REASONS = {
  source: "The source is open, but delivers no frame: it has stalled, or its frames are far apart.",
  reconnection: "The source was lost and is being opened again.",
  engine: "The engine is busy: it is still upscaling a frame.",
  page: "This page is behind: the network or the browser is too slow for the frames.",
  server: "sr-edge does not answer: the network or the machine is too busy.",
};

const byId = (id) => document.getElementById(id);
const picture = new Picture({
  player: byId("player"), stage: byId("stage"), slider: byId("slider"), boxes: [byId("pane"), byId("compared-pane")],
});
const requests = { count: 0 };
const engines = new EngineControls({
  fieldset: byId("engines"), select: byId("compared"), requests, send: (request) => send(request),
});
const settings = new NetworkSettings({ fieldset: byId("settings"), requests, send: (request) => send(request) });
const graphs = {
  rate: new Graph(document.querySelector("#rate svg"), ["out", "in"]),
  latency: new Graph(document.querySelector("#latency svg"), ["p50", "p95", "model"]),
  reused: new Graph(document.querySelector("#reused svg"), ["share"], { ceiling: 100 }),
  dropped: new Graph(document.querySelector("#dropped svg"), ["dropped"], { bars: true }),
};
let socket = null;
let streamInfo = null;
let statistics = null;
let header = null;
let isPaused = false;
let isFrameRequested = false;
let drawnFrames = 0;
let loading = { labels: "", since: 0 };
let message = { text: "", until: 0 };
const lastTime = { drawn: performance.now(), heard: performance.now() };

// The images

/** The parts of a message: the length of a JSON header (4 bytes, big-endian), the header, and the files it describes. */
function parts(buffer) {
  const length = new DataView(buffer).getUint32(0);
  const parsed = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let start = 4 + length;
  const blobs = parsed.bytes.map((size) => new Blob([buffer.slice(start, (start += size))]));
  return { header: parsed, blobs };
}

async function showFrame(received, blobs) {
  const [before, ...afters] = await Promise.all(blobs.map((blob) => createImageBitmap(blob)));
  const labels = received.outputs.map(({ engine, model_ms: ms }) => `${engineName(engine)} · ${formatNumber(ms, ms < 10 ? 1 : 0)} ms`);
  const close = () => [before, ...afters].forEach((image) => image.close());
  header = received;
  picture.show({ before, afters, labels, reused: received.outputs.map(({ reused }) => reused), close });
  lastTime.drawn = performance.now();
  document.documentElement.dataset.frames = ++drawnFrames;
  document.documentElement.dataset.engine = received.outputs[0].engine;
  byId("waiting").hidden = true;
  byId("difference").hidden = received.outputs.length < 2;
  byId("difference").textContent = received.difference_db === null
    ? "the outputs are the same" : `${formatNumber(received.difference_db, 1)} dB PSNR between the outputs (luma)`;
  showStreamInfo();
  showActivity();
}

function save(names, blobs) {
  names.forEach((name, index) => {
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blobs[index]), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), SHOWN_MS);
  });
  message = { text: `Saved ${names.join(" and ")}`, until: performance.now() + SHOWN_MS };
  showActivity();
}

// What the page shows about the stream

const formatNumber = (value, digits = 0) =>
  value === null ? "–" : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

function showStreamInfo() {
  if (!streamInfo) return;
  const size = header
    ? [header.before, header.outputs[0]].map(({ width, height }) => `${width} × ${height}`).join(" → ") : `× ${streamInfo.scale}`;
  const text = [streamInfo.source, streamInfo.model, size, `policy ${streamInfo.policy}`].join("  ·  ");
  byId("stream-info").textContent = text;
  byId("stream-info").title = text;
}

function setCard(card, value, details) {
  document.querySelector(`#${card} b`).textContent = value;
  document.querySelector(`#${card} .figure span`).textContent = details;
}

function showStatistics(received) {
  const { seconds, dropped, failed } = received;
  const newlyDropped = statistics ? Math.max(0, dropped - statistics.dropped) : 0;
  const elapsed = statistics ? seconds - statistics.seconds : 0;
  statistics = received;
  setCard("rate", formatNumber(received.fps_out, 1), `of ${formatNumber(received.fps_in, 1)}`);
  setCard("latency", received.p50_ms === null ? "–" : `${formatNumber(received.p50_ms)} ms`,
    `95 % below ${formatNumber(received.p95_ms)} ms, model ${formatNumber(received.model_ms)} ms`);
  const percentage = received.frames_in ? (100 * dropped) / received.frames_in : 0;
  const failures = failed ? `, ${formatNumber(failed)} failed` : "";
  setCard("dropped", formatNumber(dropped),
    `${formatNumber(percentage, 1)} % of ${formatNumber(received.frames_in)}${failures}`);
  const isLive = received.state === "live";
  if (isLive) {
    graphs.rate.add(seconds, { in: received.fps_in, out: received.fps_out });
    graphs.latency.add(seconds, { p50: received.p50_ms, p95: received.p95_ms, model: received.model_ms });
    if (received.reuse) graphs.reused.add(seconds, { share: 100 * received.reuse.share });
    graphs.dropped.add(seconds, { dropped: elapsed > 0 ? newlyDropped / elapsed : 0 });
  }
  showReuse(received.reuse);
  engines.update(received);
  settings.update(received);
  showState(received.state, isLive ? received.problem : received.state === "failed" ? received.reason : "");
  showActivity();
}

/** Shows the share of reused tiles; null without reuse, or without a frame in the last seconds. */
function showReuse(reuse) {
  if (!reuse) return;
  byId("reused").hidden = byId("show-reused").hidden = false;
  const megabytes = (bytes) => formatNumber(bytes / 2 ** 20);
  setCard("reused", `${formatNumber(100 * reuse.share)} %`,
    reuse.obstacle || `of ${formatNumber(reuse.tiles)} tiles, ${megabytes(reuse.memory_bytes)} of ${megabytes(reuse.most_bytes)} MiB`);
}

function showState(state, notice) {
  byId("state").dataset.state = state;
  byId("state-text").textContent = STATE_NAMES[state];
  byId("notice").textContent = notice;
  byId("notice").hidden = !notice;
}

/** What keeps the page from showing new frames, as its cause and the seconds that it has lasted; null if nothing does. */
function waiting() {
  if (statistics?.state !== "live" || socket?.readyState !== WebSocket.OPEN) return null;
  const now = performance.now();
  const unheard = now - lastTime.heard;
  if (unheard > WAITING_MS) return { for: "server", seconds: unheard / 1e3 };
  if (statistics.waiting) return statistics.waiting;
  const undrawn = now - lastTime.drawn;
  return !isPaused && undrawn > WAITING_MS && statistics.fps_out > 0 ? { for: "page", seconds: undrawn / 1e3 } : null;
}

/** Says over the picture what is loaded, why no frame arrives, or what was saved; the first of these that applies. */
function showActivity() {
  const labels = engines.loading.map(engineName).join(" and ");
  if (labels !== loading.labels) loading = { labels, since: performance.now() };
  const cause = waiting();
  const says = labels ? [`Loading ${labels} ...`, (performance.now() - loading.since) / 1e3, `${engines.running.map(engineName).join(" and ")} runs until then.`]
    : cause ? ["No frame for", cause.seconds, REASONS[cause.for]]
    : performance.now() < message.until ? [message.text, 0, ""] : null;
  const box = byId("activity");
  box.hidden = !says;
  box.dataset.kind = labels ? "loading" : cause ? cause.for : "message";
  if (says) {
    setText(box.querySelector("b"), says[0]);
    setText(box.querySelector(".seconds"), says[1] >= 1 ? `${Math.floor(says[1])} s` : "");
    setText(box.querySelector("small"), says[2]);
  }
  byId("paused-tag").hidden = !isPaused;
}

/** Sets a text only if it has changed, so that screen readers announce it once. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// The controls

function pause() {
  isPaused = !isPaused;
  byId("pause").setAttribute("aria-pressed", isPaused);
  byId("pause").querySelector("span").textContent = isPaused ? "Resume" : "Pause";
  lastTime.drawn = performance.now();
  requestFrame();
  showActivity();
}

const takeSnapshot = () => header && send({ request: "snapshot" });

function toggleReused() {
  picture.isTinted = !picture.isTinted;
  byId("show-reused").setAttribute("aria-pressed", picture.isTinted);
  picture.draw();
}

function toggleFullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else byId("player").requestFullscreen?.();
}

function toggleHelp() {
  const help = byId("help");
  if (help.open) help.close();
  else help.showModal();
}

const KEYS = {
  p: pause, s: takeSnapshot, f: toggleFullScreen, r: toggleReused, "?": toggleHelp,
  0: () => (picture.zoom = "fit"), 1: () => (picture.zoom = "1"), 2: () => (picture.zoom = "2"), 4: () => (picture.zoom = "4"),
  "+": () => picture.zoomBy(1), "-": () => picture.zoomBy(-1),
};

byId("pause").addEventListener("click", pause);
byId("snapshot").addEventListener("click", takeSnapshot);
byId("full-screen").addEventListener("click", toggleFullScreen);
byId("show-reused").addEventListener("click", toggleReused);
byId("full-screen").hidden = !document.fullscreenEnabled;
byId("help-button").addEventListener("click", toggleHelp);
document.addEventListener("fullscreenchange", () => {
  const isFull = document.fullscreenElement !== null;
  byId("full-screen").setAttribute("aria-pressed", isFull);
  byId("full-screen").querySelector("span").textContent = isFull ? "Exit" : "Full screen";
  picture.layout();
});
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("select") || (byId("help").open && event.key !== "?");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  KEYS[event.key.toLowerCase()]?.();
});

// The connection

function send(request) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(request));
}

/** Requests a frame unless one is already on its way, so that at most one is. */
function requestFrame() {
  if (isPaused || isFrameRequested || socket?.readyState !== WebSocket.OPEN) return;
  isFrameRequested = true;
  send({ request: "frame" });
}

async function receive(data) {
  lastTime.heard = performance.now();
  if (data instanceof ArrayBuffer) {
    const { header: received, blobs } = parts(data);
    if (received.kind === "snapshot") {
      save(received.names, blobs);
      return;
    }
    await showFrame(received, blobs);
    isFrameRequested = false;
    requestAnimationFrame(requestFrame);
    return;
  }
  const received = JSON.parse(data);
  if (received.kind === "statistics") {
    showStatistics(received);
    return;
  }
  streamInfo = received;
  showStreamInfo();
  requests.count = 0; // the server has received no request of a new connection
  engines.list(received);
  settings.list(received.controls);
  engines.isConnected = settings.isConnected = true;
}

function connect() {
  const opened = new WebSocket(`ws${location.protocol.slice(4)}//${location.host}/live${location.search}`);
  socket = opened;
  opened.binaryType = "arraybuffer";
  opened.addEventListener("open", () => {
    isFrameRequested = false;
    requestFrame();
  });
  opened.addEventListener("message", ({ data }) => opened === socket && receive(data));
  opened.addEventListener("close", ({ code, reason }) => {
    engines.isConnected = settings.isConnected = false;
    showState("lost", reason || "The connection to sr-edge is lost. Is it still running?");
    showActivity();
    if (code !== REFUSED) setTimeout(connect, RETRY_MS);
  });
}

setInterval(showActivity, TICK_MS);
connect();
