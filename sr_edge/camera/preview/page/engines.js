// The engines to choose from. A page's newest request is shown at once, and stays until the server has answered it.

const RUNTIME_NAMES = {
  torch: "PyTorch", onnxruntime: "ONNX Runtime", openvino: "OpenVINO", tensorrt: "TensorRT", "tensorrt-rtx": "TensorRT-RTX",
};

/** "openvino int8" as "OpenVINO int8". */
export const engineName = (label) => {
  const [runtime, precision] = label.split(" ");
  return `${RUNTIME_NAMES[runtime] ?? runtime} ${precision}`;
};

export class EngineControls {
  /** `requests` counts the requests of the page; `send` is called with each of them. */
  constructor({ fieldset, select, requests, send }) {
    Object.assign(this, { fieldset, select, requests, send, labels: [], wanted: [], running: [] });
    select.addEventListener("change", () => this.request([this.wanted[0], select.value]));
  }

  set isConnected(isConnected) {
    this.fieldset.disabled = this.select.disabled = !isConnected;
  }

  /** Lists the engines of a new connection. */
  list({ engines, recommended }) {
    Object.assign(this, { labels: engines, recommended });
    const groups = byRuntime(engines);
    const rows = [...groups].map(([runtime, labels]) => this.group(runtime, labels));
    this.fieldset.replaceChildren(this.fieldset.firstElementChild, ...rows);
    if (recommended) {
      const note = document.createElement("p");
      note.className = "recommendation";
      note.textContent = `★ Recommended: ${engineName(recommended)} was measured to be the best on this machine`;
      this.fieldset.append(note);
    }
  }

  group(runtime, labels) {
    const group = document.createElement("div");
    group.className = "engine";
    const name = document.createElement("span");
    name.textContent = RUNTIME_NAMES[runtime] ?? runtime;
    const buttons = document.createElement("div");
    buttons.className = "segments";
    buttons.append(...labels.map((label) => this.button(label)));
    group.append(name, buttons);
    return group;
  }

  button(label) {
    const button = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "engine", value: label });
    const isRecommended = label === this.recommended;
    input.setAttribute("aria-label", engineName(label) + (isRecommended ? ", recommended" : ""));
    input.addEventListener("change", () => this.request([label, this.wanted[1]]));
    const text = document.createElement("span");
    text.textContent = label.split(" ")[1] + (isRecommended ? " ★" : "");
    button.classList.toggle("recommended", isRecommended);
    button.append(input, text);
    return button;
  }

  /** Requests an engine and one to compare with. The two change places if the new engine is the one compared with. */
  request([engine, compared]) {
    const other = compared === engine ? this.wanted[0] : compared;
    this.wanted = [engine, other].filter((label, index, all) => label && all.indexOf(label) === index);
    this.requests.count += 1;
    this.send({ request: "engines", engines: this.wanted, request_number: this.requests.count });
    this.render();
  }

  /** Shows what the server reports, unless it has not received the newest request yet. */
  update({ engines, wanted, request_number }) {
    this.running = engines;
    if (request_number === this.requests.count) this.wanted = wanted;
    this.render();
  }

  /** The engines that are requested and do not run yet. */
  get loading() {
    return this.wanted.filter((label) => !this.running.includes(label));
  }

  render() {
    const [engine, compared = ""] = this.wanted;
    for (const input of this.fieldset.querySelectorAll("input")) {
      input.checked = input.value === engine;
      input.parentElement.classList.toggle("loading", input.checked && this.loading.includes(engine));
    }
    const others = ["", ...this.labels.filter((label) => label !== engine)];
    if (String([...this.select.options].map(({ value }) => value)) !== String(others)) {
      this.select.replaceChildren(...others.map((label) => new Option(label ? engineName(label) : "nothing", label)));
    }
    this.select.value = compared;
  }
}

/** The labels of each runtime, in their order. */
const byRuntime = (labels) => {
  const groups = new Map();
  for (const label of labels) {
    const [runtime] = label.split(" ");
    groups.set(runtime, [...(groups.get(runtime) ?? []), label]);
  }
  return groups;
};
