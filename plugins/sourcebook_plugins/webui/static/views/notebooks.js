// The list of notebooks.

import { all, post } from "../api.js";
import { ask, button, failed, fill, h } from "../dom.js";
import { address, go } from "../router.js";
import { ago, t } from "../strings.js";

customElements.define("sb-notebooks", class extends HTMLElement {
  async connectedCallback() {
    const list = h("ul", { class: "cards" });
    fill(this, h("div", { class: "page" },
      h("header", { class: "row spread" }, h("h1", {}, t("notebooks.title")), button("add", { class: "primary", onclick: () => this.make() }, t("notebooks.new"))), list));
    try {
      const found = await all("/notebooks");
      fill(list, found.map((one) => h("li", {}, h("a", { class: "card", href: address(one.id) }, h("strong", {}, one.title), h("span", { class: "muted" }, ago(one.updated_at))))));
      if (!found.length) list.after(h("p", { class: "muted" }, t("notebooks.none")));
    } catch (error) {
      failed(error);
    }
  }

  async make() {
    const title = await ask(t("notebooks.new"), { label: t("notebooks.name"), action: t("make") });
    if (title) await post("/notebooks", { title }).then((made) => go(address(made.id)), failed);
  }
});
