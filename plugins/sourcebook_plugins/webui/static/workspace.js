// An open notebook: sources, chat and notes side by side, or one at a time on a narrow screen.

import { get } from "./api.js";
import { failed, fill, h, icon } from "./dom.js";
import { t } from "./strings.js";
import "./chat.js";
import "./sources.js";
import "./viewer.js";
import "./views/notes.js";

const PANES = [["sources", "sources"], ["chat", "chat"], ["notes", "note"]];

customElements.define("sb-notebook", class extends HTMLElement {
  async connectedCallback() {
    try {
      this.notebook = await get(`/notebooks/${this.id_}`);
    } catch (error) {
      if (error.status === 401) return;
      return fill(this, h("div.page", h("h1", error.title || t("error.plain")), h("p", error.detail), h("a", { href: "#/" }, t("notebooks.back"))));
    }
    if (!this.isConnected) return;
    document.title = `${this.notebook.title} · Sourcebook`;
    fill(document.getElementById("crumb"), h("h1", this.notebook.title));
    this.panes = Object.fromEntries(PANES.map(([name]) => [name, this.pane(name)]));
    this.tabs = h("nav.tabs", { "aria-label": t("panes") }, PANES.map(([name, sign]) =>
      h("button", { type: "button", "data-pane": name, onclick: () => this.turnTo(name) }, icon(sign), t(`${name}.title`))));
    fill(this, ...Object.values(this.panes), this.tabs);
    this.turnTo("chat");
    this.showSource(this.at);
  }

  pane(name) {
    const view = Object.assign(document.createElement(`sb-${name}`), { notebook: this.notebook });
    return h("section.pane", { id: `pane-${name}`, "aria-labelledby": `title-${name}` },
      h("h2.pane-title", { id: `title-${name}` }, t(`${name}.title`)), view);
  }

  /** Which pane a narrow screen shows. */
  turnTo(name) {
    this.dataset.pane = name;
    for (const tab of this.tabs.children) tab.setAttribute("aria-current", String(tab.dataset.pane === name));
  }

  /** Open the address's source in the sources pane, or close what is open there. */
  showSource(at) {
    this.at = at;
    if (!this.panes) return; // told again once it is built
    const open = this.panes.sources.querySelector("sb-viewer");
    this.classList.toggle("reading", Boolean(at.source));
    if (!at.source) return open && this.closeSource(open);
    if (!open) this.before = { focus: document.activeElement, pane: this.dataset.pane };
    const viewer = Object.assign(document.createElement("sb-viewer"), { notebook: this.notebook, at });
    if (open) open.replaceWith(viewer);
    else this.panes.sources.append(viewer);
    this.turnTo("sources");
  }

  /** Back to where the reader was. */
  closeSource(open) {
    open.remove();
    this.turnTo(this.before?.pane ?? "sources");
    if (this.before?.focus?.isConnected) this.before.focus.focus();
  }
});
