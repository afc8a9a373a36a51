// The scalar inputs of the network, such as the alpha of RealNet: a slider for each.

export class NetworkSettings {
  /** `requests` counts the requests of the page; `send` is called with each of them. */
  constructor({ fieldset, requests, send }) {
    Object.assign(this, { fieldset, requests, send, rows: new Map() });
  }

  set isConnected(isConnected) {
    this.fieldset.disabled = !isConnected;
  }

  /** Lists the inputs of a new connection; a network without any has no fieldset. */
  list(controls) {
    this.rows = new Map(controls.map((control) => [control.name, this.row(control)]));
    const labels = [...this.rows.values()].map(({ label }) => label);
    this.fieldset.replaceChildren(this.fieldset.firstElementChild, ...labels);
    this.fieldset.hidden = labels.length === 0;
  }

  row({ name, minimum, maximum, default: value }) {
    const label = document.createElement("label");
    label.className = "setting";
    const text = document.createElement("span");
    text.textContent = name;
    const slider = document.createElement("input");
    // The range before the value, which is otherwise forced into the range of 0 to 100.
    Object.assign(slider, { type: "range", min: minimum, max: maximum, step: (maximum - minimum) / 100 || 1, value });
    slider.dataset.control = name;
    const number = document.createElement("output");
    const row = { label, slider, number };
    slider.addEventListener("input", () => {
      show(row, slider.valueAsNumber);
      this.requests.count += 1;
      this.send({ request: "controls", controls: { [name]: slider.valueAsNumber }, request_number: this.requests.count });
    });
    show(row, value);
    label.append(text, slider, number);
    return row;
  }

  /** Shows what the server reports, unless it has not received the newest request yet. */
  update({ controls, request_number }) {
    if (request_number !== this.requests.count) return;
    for (const [name, value] of Object.entries(controls)) {
      const row = this.rows.get(name);
      if (row) show(row, value);
    }
  }
}

const show = ({ slider, number }, value) => {
  slider.value = value;
  number.textContent = value.toLocaleString("en", { maximumFractionDigits: 2 });
};
