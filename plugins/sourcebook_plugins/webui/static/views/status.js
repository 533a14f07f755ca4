// What runs: plugins and health, read-only.

import { all } from "../api.js";
import { failed, fill, h } from "../dom.js";
import { t } from "../strings.js";

customElements.define("sb-status", class extends HTMLElement {
  async connectedCallback() {
    const list = h("ul", { class: "plain stack" });
    fill(this, h("div", { class: "page" }, h("h1", {}, t("status.title")), list));
    try {
      const found = await all("/plugins");
      fill(list, found.map((one) => h("li", {}, `${one.name}: ${one.state} ${one.reason}`)));
    } catch (error) {
      failed(error);
    }
  }
});
