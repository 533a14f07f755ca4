// Notes of a notebook.

import { all, post } from "../api.js";
import { failed, fill, h, toast } from "../dom.js";
import { t } from "../strings.js";

customElements.define("sb-notes", class extends HTMLElement {
  connectedCallback() {
    this.list = h("ul", { class: "plain stack" });
    fill(this, this.list);
    this.save = (event) => this.keep(event.detail);
    addEventListener("save-note", this.save);
    this.read();
  }

  disconnectedCallback() {
    removeEventListener("save-note", this.save);
  }

  async read() {
    try {
      const found = await all(`/notebooks/${this.notebook.id}/notes`);
      fill(this.list, found.map((note) => h("li", { class: "card" }, h("strong", {}, note.title), h("p", {}, note.text.slice(0, 200)))));
      if (!found.length) fill(this.list, h("li", { class: "muted" }, t("notes.none")));
    } catch (error) {
      failed(error);
    }
  }

  async keep({ message_id, text, title = "" }) {
    try {
      await post(`/notebooks/${this.notebook.id}/notes`, message_id ? { message_id, title } : { text, title });
      toast(t("notes.saved"));
      await this.read();
    } catch (error) {
      failed(error);
    }
  }
});
