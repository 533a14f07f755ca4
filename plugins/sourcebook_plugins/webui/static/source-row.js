// One source as a row: made once, then patched. What it cannot do itself it tells the pane: see `actions`.

import { fill, h, menu, trouble } from "./dom.js";
import { address } from "./router.js";
import { left, number, size, t } from "./strings.js";

const WORKING = new Set(["queued", "parsing", "chunking", "embedding", "indexing"]);

/** Whether something is being done with a source. */
export const isWorking = (source) => WORKING.has(source.state) || WORKING.has(source.pending?.state);

/** Whether a question can be answered from it. */
export const isReady = (source) => source.state === "ready";

/** A row. `actions`: `tick(row)`, `rename`, `tag`, `retry(row, password?)`, `refresh`, `save`, `remove`. */
export class SourceRow {
  constructor(source, notebook, ticked, actions) {
    this.tick = h("input", { type: "checkbox", checked: ticked, onchange: () => actions.tick(this) });
    this.name = h("a.source-name.cut");
    this.state = h("div.small.muted");
    this.more = h("div");
    this.actions = actions;
    this.notebook = notebook;
    const opener = menu(t("source.menu"), () => this.items());
    this.opener = opener;
    this.element = h("li.source", this.tick, h("div.grow", this.name, this.state, this.more), opener);
    this.update(source);
  }

  items() {
    const { source, actions } = this;
    const item = (key, sign, run, more) => ({ label: t(`source.${key}`), icon: sign, run: () => run(this), ...more });
    return [
      item("rename", "edit", actions.rename),
      item("tag", "note", actions.tag),
      source.url ? item("refresh", "retry", actions.refresh) : item("reread", "retry", actions.retry),
      item("save", "download", actions.save),
      item("delete", "trash", actions.remove, { danger: true }),
    ];
  }

  /** Show a source as the API tells of it now; nothing is touched where nothing has changed. */
  update(source) {
    const shown = JSON.stringify([source.name, source.tags, source.state, source.problem, source.progress, source.pending, source.size, source.url, source.document?.id]);
    this.source = source;
    if (shown === this.shown) return;
    this.shown = shown;
    this.name.href = address(this.notebook.id, source.id);
    this.name.textContent = this.name.title = source.name;
    this.tick.disabled = !isReady(source);
    this.tick.setAttribute("aria-label", t("source.tick", { name: source.name }));
    for (const attribute of ["aria-label", "title"]) this.opener.setAttribute(attribute, t("source.menu", { name: source.name }));
    this.element.dataset.state = source.state ?? "";
    const pending = source.pending;
    const problem = source.problem ?? pending?.problem;
    if (isWorking(source)) this.progress({ stage: pending?.state ?? source.state, ...source.progress });
    else if (problem) this.failed(problem);
    else this.facts(source);
  }

  facts(source) {
    const pages = Number(source.document?.metadata?.pages) || 0;
    const facts = [kind(source), pages && t("source.pages", { count: pages }), size(source.size), source.document?.warnings.length && t("source.warnings", { count: source.document.warnings.length })];
    fill(this.state, facts.filter(Boolean).join(" · "));
    fill(this.more, source.tags.length && h("div.row.wrap.tags", source.tags.map((tag) => h("span.pill", tag))));
  }

  /** How far it is: `stage`, the `page` it is read at, `done` of `total` passages where there is something to count. */
  progress({ stage, page, done, total, left_seconds }) {
    const counted = total > 0 && done !== undefined;
    const pages = Number(this.source.document?.metadata?.pages);
    const words = [t(`stage.${stage}`), pages > 0 ? t("source.pages", { count: pages }) : page > 0 && t("source.page", { page: number(page) }), counted && t("source.passages", { done: number(done), total: number(total) }), left_seconds > 2 && t("source.left", { time: left(left_seconds) })];
    fill(this.state, words.filter(Boolean).join(" · "));
    const bar = this.more.querySelector("progress") ?? h("progress");
    bar.setAttribute("aria-label", t("source.progress", { name: this.source.name }));
    if (counted) Object.assign(bar, { value: done, max: total });
    else bar.removeAttribute("value");
    if (!bar.isConnected) fill(this.more, stage !== "queued" && bar);
  }

  failed(problem) {
    const locked = problem.code === "encrypted";
    fill(this.state);
    fill(this.more, trouble(problem, !locked && (() => this.actions.retry(this))), locked && this.password());
  }

  password() {
    const input = h("input", { type: "password", required: true, maxlength: 1000, autocomplete: "off", "aria-label": t("source.password", { name: this.source.name }), placeholder: t("source.password.short") });
    return h("form.row", { onsubmit: () => this.actions.retry(this, input.value) }, input, h("button.button", t("source.unlock")));
  }
}

function kind(source) {
  const ending = /\.(\w{1,5})$/.exec(source.name)?.[1];
  return source.url ? t("source.web") : ending ? ending.toUpperCase() : source.media_type;
}
