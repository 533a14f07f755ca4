// What runs: health, pipelines and plugins. Nothing can be changed here.

import { get } from "../api.js";
import { button, fill, h, trouble } from "../dom.js";
import { t } from "../strings.js";

const ORDER = ["failed", "active", "off"];
const LOOK = { ok: "good", active: "good", failed: "bad" };

customElements.define("sb-status", class extends HTMLElement {
  connectedCallback() {
    this.body = h("div.stack", { "aria-live": "polite" }, h("p.muted", t("loading")));
    document.title = `${t("status.title")} · Sourcebook`;
    fill(this, h("div.page", h("header.row.spread", h("h1", t("status.title")), button("retry", { onclick: () => this.read() }, t("status.again"))), this.body));
    return this.read();
  }

  async read() {
    // A server that is not ready says so in a problem, which names the parts too.
    const parts = get("//readyz").catch((problem) => (problem.parts ? problem : Promise.reject(problem)));
    try {
      const [health, me, pipelines, plugins] = await Promise.all([parts, get("/me"), get("/pipelines"), get("/plugins")]);
      if (this.isConnected) fill(this.body, this.health(health, me), this.pipelines(pipelines.items), this.plugins(plugins.items));
    } catch (error) {
      fill(this.body, trouble(error));
    }
  }

  health({ parts }, me) {
    const rows = Object.entries(parts).map(([name, state]) => [h("code", name), pill(state)]);
    return section("health", h("p.muted", t("status.who", { version: me.version, owner: me.owner })), table(["part", "state"], rows));
  }

  pipelines(found) {
    const named = (one) => one && h("span", { title: one.use }, one.name === one.use ? one.name : `${one.name} (${one.use})`);
    const list = (many) => many.flatMap((one, at) => [at > 0 && ", ", named(one)]);
    return section("pipelines", table(["pipeline", ...["chunker", "embedder", "retrievers", "reranker", "llm"].map((key) => h("code", key))], found.map((one) =>
      [h("strong", one.name), named(one.chunker), named(one.embedder) ?? t("status.words"), list(one.retrievers), named(one.reranker) ?? "–",
        [list(one.llms), !one.generates && h("div.small.muted", t("status.quotes"))]])));
  }

  plugins(found) {
    const sorted = [...found].sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state) || a.name.localeCompare(b.name));
    return section("plugins", table(["plugin", "state", "adds"], sorted.map((one) => [
      [h("strong", one.name), h("div.small.muted", [one.distribution, one.version].filter(Boolean).join(" "))],
      [pill(one.state), [one.reason, ...one.warnings].filter(Boolean).map((words) => h("div.small", words))],
      h("span.small", Object.entries(one.components).filter(([, names]) => names.length).map(([kind, names]) => `${kind}: ${names.join(", ")}`).join("; ") || one.hooks.join(", ")),
    ])));
  }
});

const pill = (state) => {
  const known = ["ok", "active", "failed", "off", "stopping"].includes(state);
  return h("span", { class: `pill ${LOOK[state] ?? (state === "off" ? "" : "warn")}` }, known ? t(`state.${state}`) : state);
};

const section = (name, ...body) => h("section.card.stack.tight", { "aria-labelledby": `status-${name}` }, h("h2", { id: `status-${name}` }, t(`status.${name}`)), ...body);

function table(heads, rows) {
  return h("div.wide-table", { tabindex: "0", role: "region", "aria-label": t(`status.${heads[0]}`) }, h("table",
    h("thead", h("tr", heads.map((key) => h("th", { scope: "col" }, key.localName ? key : t(`status.${key}`))))),
    h("tbody", rows.map((cells) => h("tr", cells.map((cell) => h("td", cell)))))));
}
