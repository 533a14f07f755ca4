// Ways in for sources: files and folders (picked or dropped), an address, pasted text. Each shows a row while it comes.

import { post, upload } from "./api.js";
import { button, dialog, failed, fill, h, icon, trouble } from "./dom.js";
import { number, t } from "./strings.js";

const AT_ONCE = 3;
const TRIES = 6;

/** What is on its way into a notebook. `list` holds the rows, `add(source, created)` takes each source that came in. */
export class Adding {
  constructor(notebook, list, add) {
    Object.assign(this, { notebook, list, add, waiting: [], busy: 0, stop: new AbortController() });
  }

  /** Files to be uploaded, a few at a time. */
  files(files) {
    for (const file of files) if (!file.name.startsWith(".")) this.queue(file.name, (row) => this.send(file, row));
  }

  /** An address, which the server fetches. */
  url(url) {
    this.queue(url, async () => ({ source: await post(`/notebooks/${this.notebook.id}/sources/url`, { url }, { signal: this.stop.signal }) }), t("add.fetching"));
  }

  /** Pasted text; plain text is Markdown that has no signs. */
  text(name, text) {
    const named = /\.\w+$/.test(name) ? name : `${name}.md`;
    this.queue(named, async () => ({ source: await post(`/notebooks/${this.notebook.id}/sources/text`, { name: named, text }) }));
  }

  async send(file, row) {
    for (let tries = 1; ; tries += 1) {
      try {
        return await upload(this.notebook.id, file, { signal: this.stop.signal, onProgress: (share) => row.sent(share) });
      } catch (error) {
        if (![429, 503].includes(error.status) || tries >= TRIES) throw error; // the server asks for a little patience
        await new Promise((resolve) => setTimeout(resolve, 1000 * (error.retryAfter || 2)));
      }
    }
  }

  queue(name, work, waiting = t("add.waiting")) {
    const row = incoming(name, waiting);
    this.list.append(row.element);
    this.waiting.push({ name, work, row });
    this.pump();
  }

  async pump() {
    if (this.busy >= AT_ONCE || !this.waiting.length) return;
    const { work, row, name } = this.waiting.shift();
    this.busy += 1;
    try {
      const { source, created = true } = await work(row);
      row.element.remove();
      this.add(source, created);
    } catch (error) {
      if (error.name !== "AbortError") row.failed(error, () => (row.element.remove(), this.queue(name, work)));
    }
    this.busy -= 1;
    this.pump();
    this.pump();
  }
}

function incoming(name, waiting) {
  const state = h("div.small.muted", waiting);
  const bar = h("progress", { "aria-label": t("add.progress", { name }), max: 1 });
  const more = h("div", bar);
  const element = h("li.source", icon("upload"), h("div.grow", h("div.source-name.cut", name), state, more));
  return {
    element,
    sent(share) {
      bar.value = share;
      state.textContent = share < 1 ? t("add.sending", { percent: number(Math.round(share * 100)) }) : t("add.storing");
    },
    failed(error, again) {
      fill(state);
      fill(more, trouble(error, again));
      element.append(button("close", { label: t("add.dismiss", { name }), onclick: () => element.remove() }));
    },
  };
}

/** The dialog that offers all ways in. */
export function addDialog(adding) {
  return dialog(t("add.title"), (close) => {
    const pick = (folder) => {
      const input = h("input", { type: "file", multiple: true, webkitdirectory: folder, hidden: true,
        onchange: () => (adding.files(input.files), close()) });
      return [button(folder ? "sources" : "file", { class: folder ? "" : "primary", onclick: () => input.click() }, t(folder ? "add.folder" : "add.files")), input];
    };
    const url = h("input", { type: "url", required: true, placeholder: "https://", maxlength: 8000 });
    const name = h("input", { required: true, maxlength: 200, value: t("add.text") });
    const text = h("textarea", { required: true, rows: 4 });
    const form = (submit, ...fields) => h("form.stack.tight", { onsubmit: () => (submit(), close()) }, ...fields, h("div.actions", h("button.button", t("add"))));
    return h("div.stack",
      h("div.drop", icon("upload"), h("p", t("add.drop")), h("div.row.wrap", pick(false), pick(true))),
      form(() => adding.url(url.value.trim()), h("label", h("span", t("add.url")), url)),
      form(() => adding.text(name.value.trim(), text.value), h("label", h("span", t("add.text")), text), h("label", h("span", t("add.text.title")), name)));
  });
}

/** Take files and folders that are dropped anywhere on `area`; `open(over)` hears whether something hangs over it. */
export function dropsOn(area, adding, open) {
  let depth = 0;
  const over = (change) => open((depth = Math.max(0, depth + change)) > 0);
  const brings = (event) => event.dataTransfer?.types.includes("Files");
  area.addEventListener("dragenter", (event) => brings(event) && over(1));
  area.addEventListener("dragleave", (event) => brings(event) && over(-1));
  area.addEventListener("dragover", (event) => brings(event) && event.preventDefault());
  area.addEventListener("drop", (event) => {
    if (!brings(event)) return;
    event.preventDefault();
    over(-depth);
    document.querySelector("dialog")?.dispatchEvent(new Event("cancel", { cancelable: true }));
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
    walk(entries, (file) => adding.files([file])).catch(failed);
  });
}

async function walk(entries, take) {
  for (const entry of entries.filter(Boolean)) {
    if (entry instanceof File) take(entry);
    else if (entry.isFile) take(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    else {
      const folder = entry.createReader();
      for (let some; (some = await new Promise((resolve, reject) => folder.readEntries(resolve, reject))).length; ) await walk(some, take);
    }
  }
}
