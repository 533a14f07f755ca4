// The list of notebooks, the last used first, and what a first visit shows.

import { all, get, patch, post, remove, uuid } from "../api.js";
import { announce, ask, button, confirm, dialog, failed, fill, h, icon, menu, trouble } from "../dom.js";
import { may } from "../me.js";
import { address, go } from "../router.js";
import { ago, t } from "../strings.js";

const AGAIN = 3000; // ms until the counts are asked for once more, while something is being read

customElements.define("sb-notebooks", class extends HTMLElement {
  async connectedCallback() {
    this.body = h("div.stack", h("p.muted", t("loading")));
    this.tools = h("div.row.wrap");
    fill(this, h("div.page", h("header.row.spread.wrap", h("h1", t("notebooks.title")), this.tools), this.body));
    try {
      this.writes = await may("write");
      await this.read();
    } catch (error) {
      fill(this.body, trouble(error, () => this.connectedCallback()));
    }
  }

  disconnectedCallback() {
    clearTimeout(this.timer);
  }

  async read() {
    clearTimeout(this.timer);
    const found = await all("/notebooks", { counts: true, order: "used" });
    if (!this.isConnected) return;
    const tried = found.some((one) => one.metadata.example);
    fill(this.tools, this.writes && found.length && [
      !tried && this.offer("quiet"),
      button("add", { class: "primary", onclick: () => this.make() }, t("notebooks.new")),
    ]);
    this.show(found);
    if (found.some((one) => one.counts.working)) this.timer = setTimeout(() => this.read().catch(failed), AGAIN);
  }

  /** Only what has changed is made anew, so that the focus stays where it is. */
  show(found) {
    if (!found.length) return fill(this.body, this.first());
    const list = this.body.querySelector(".cards") ?? h("ul.plain.cards");
    const before = new Map([...list.children].map((item) => [item.shown, item]));
    list.replaceChildren(...found.map((one) => before.get(JSON.stringify(one)) ?? this.card(one)));
    if (!list.isConnected) fill(this.body, list);
  }

  card(one) {
    const { sources, working, failed: torn, notes, conversations } = one.counts;
    const facts = [["sources", sources], ["notes", notes], ["conversations", conversations]];
    const item = h("li.notebook",
      h("a.card", { href: address(one.id) },
        h("strong.clamp", one.title),
        one.description && h("span.small.muted.clamp", one.description),
        h("span.small", facts.filter(([, count], at) => !at || count).map(([key, count]) => t(`${key}.count`, { count })).join(" · ")),
        h("span.row.small.muted.used", h("span.grow", t("notebooks.used", { when: ago(one.used_at) })),
          working > 0 && h("span.pill", t("notebooks.working", { count: working })),
          torn > 0 && h("span.pill.bad", icon("warn"), t("notebooks.failed", { count: torn })))),
      this.writes && menu(t("notebooks.menu", { name: one.title }), () => [
        { label: t("source.rename"), icon: "edit", run: () => this.rename(one) },
        { label: t("source.delete"), icon: "trash", danger: true, run: () => this.drop(one) },
      ]));
    return Object.assign(item, { shown: JSON.stringify(one) });
  }

  /** Nothing is here yet: what this is, and two ways to begin. */
  first() {
    const steps = ["add", "ask", "check"].map((step) => h("li", h("strong", t(`first.${step}`)), h("span.muted", t(`first.${step}.text`))));
    return h("section.first.card", h("h2", t("first.title")), h("ol.plain.steps", steps),
      this.writes
        ? h("div.row.wrap", this.offer("primary"), button("add", { onclick: () => this.make() }, t("notebooks.new")))
        : h("p.note", t("notebooks.readonly")),
      this.writes && h("p.small.muted", t("first.example")));
  }

  offer(kind) {
    const again = uuid(); // pressed twice, it is made once
    const made = button("file", { class: kind, onclick: async () => {
      made.disabled = true;
      try {
        go(address((await post("/notebooks/example", undefined, { headers: { "Idempotency-Key": again } })).id));
      } catch (error) {
        made.disabled = false;
        failed(error);
      }
    } }, t("notebooks.example"));
    return made;
  }

  async make() {
    const pipelines = (await get("/pipelines").catch(() => ({ items: [] }))).items.map((one) => one.name);
    const made = await dialog(t("notebooks.new"), (close) => {
      const title = h("input", { required: true, autofocus: true, maxlength: 500, autocomplete: "off" });
      const names = [...pipelines].sort((a, b) => (b === "default") - (a === "default"));
      const pipeline = h("select", names.map((name) => h("option", { value: name }, name)));
      const submit = () => close({ title: title.value, ...(names.length > 1 && { pipeline: pipeline.value }) });
      return h("form.stack", { onsubmit: submit }, h("label", h("span", t("notebooks.name")), title),
        names.length > 1 && h("label", h("span", t("notebooks.pipeline")), pipeline),
        h("div.actions", h("button.button.primary", t("make"))));
    });
    if (made) await post("/notebooks", made).then((one) => go(address(one.id)), failed);
  }

  async rename(one) {
    const title = await ask(t("notebooks.rename"), { value: one.title, label: t("notebooks.name"), action: t("save") });
    if (title) await this.change(patch(`/notebooks/${one.id}`, { title }, { headers: { "If-Match": `"v${one.version}"` } }));
  }

  async drop(one) {
    const sure = t("notebooks.delete.sure", { title: one.title, sources: t("sources.count", { count: one.counts.sources }), notes: t("notes.count", { count: one.counts.notes }) });
    if (!(await confirm(t("notebooks.delete"), sure, t("source.delete")))) return;
    await this.change(remove(`/notebooks/${one.id}`));
    announce(t("source.deleted", { name: one.title }));
  }

  async change(done) {
    await done.catch(failed);
    await this.read().catch(failed);
    this.querySelector("a.card, button")?.focus();
  }
});
