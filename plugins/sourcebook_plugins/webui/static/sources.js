// The sources pane: what is in a notebook, how far each is, and which of it a question may use.

import { breathe, download, events, get, pages, patch, post, remove, send } from "./api.js";
import { Adding, addDialog, dropsOn } from "./adding.js";
import { announce, ask, button, failed, fill, h, toast } from "./dom.js";
import { may } from "./me.js";
import { address, go, route } from "./router.js";
import { isReady, isWorking, SourceRow } from "./source-row.js";
import { left, t } from "./strings.js";

const UNDO = 6000; // milliseconds in which a deletion can be taken back
const REST = 900; // between two looks at the list while something happens
const MOST_IDS = 1000; // that one question may name

let current; // the pane that is open

/** What a question may use, as a part of its request: `{}` is everything; null where nothing is ticked. */
export const narrowed = () => (current ? current.narrowed() : {});

customElements.define("sb-sources", class extends HTMLElement {
  connectedCallback() {
    current = this;
    this.rows = new Map();
    this.leaving = new Map(); // id -> what takes the question away whether to take it back
    this.stop = new AbortController();
    this.unticked = new Set(JSON.parse(sessionStorage.getItem(this.memory()) ?? "[]"));
    this.build();
    may("write").then((writes) => this.toggleAttribute("readonly", !writes), failed);
    addEventListener("pagehide", () => this.flush(), { signal: this.stop.signal });
    this.read("").then(() => this.follow(), failed);
  }

  disconnectedCallback() {
    this.flush();
    this.stop.abort();
    this.adding.stop.abort();
    if (current === this) current = undefined;
  }

  memory() {
    return `unticked:${this.notebook.id}`;
  }

  build() {
    this.coming = h("ul.plain", { "aria-label": t("add.coming") });
    this.list = h("ul.plain.sources", { "aria-label": t("sources.title") });
    this.summary = h("p.small.muted", { hidden: true });
    this.every = h("input", { type: "checkbox", onchange: () => this.tickAll(this.every.checked) });
    this.count = h("span.small.muted");
    this.find = h("input", { type: "search", placeholder: t("sources.find"), "aria-label": t("sources.find"), oninput: () => this.filter() });
    this.tools = h("div.row", { hidden: true }, h("label.row", this.every, this.count), h("div.grow", this.find));
    this.adding = new Adding(this.notebook, this.coming, (source, created) => this.added(source, created));
    this.empty = h("div.empty.muted", { hidden: true }, h("p", t("sources.none")));
    const add = button("add", { class: "primary wide", onclick: () => addDialog(this.adding) }, t("add.title"));
    fill(this, h("div.pane-head", add, this.tools, this.summary), h("div.scroll", this.coming, this.list, this.empty));
    dropsOn(this.closest("sb-notebook"), this.adding, (over) => this.closest(".pane").classList.toggle("over", over));
  }

  /** Show sources as they are now: known rows are patched, new ones put where their age says. */
  take(sources) {
    for (const source of sources) {
      const row = this.rows.get(source.id);
      if (row) row.update(source);
      else this.insert(source);
    }
    this.tell();
  }

  insert(source) {
    const row = new SourceRow(source, this.notebook, !this.unticked.has(source.id), this.actions());
    this.rows.set(source.id, row);
    row.element.hidden = this.leaving.has(source.id);
    row.element.id = source.id;
    // Ids grow with time, and the newest stands first.
    let before = this.list.firstElementChild;
    if (this.list.lastElementChild?.id > source.id) before = null;
    else while (before && before.id > source.id) before = before.nextElementSibling;
    this.list.insertBefore(row.element, before);
  }

  added(source, created) {
    if (!created) toast(t("add.there", { name: source.name }));
    this.undo(source.id);
    this.take([source]);
    this.look();
  }

  tell() {
    const there = [...this.rows.values()].filter((row) => !this.leaving.has(row.source.id));
    const ready = there.filter((row) => isReady(row.source));
    const ticked = ready.filter((row) => row.tick.checked);
    this.tools.hidden = !there.length;
    this.find.parentElement.hidden = there.length < 8;
    this.empty.hidden = there.length > 0;
    this.every.checked = ready.length > 0 && ticked.length === ready.length;
    this.every.indeterminate = ticked.length > 0 && !this.every.checked;
    this.count.textContent = this.every.checked || !ready.length ? t("sources.count", { count: there.length }) : t("sources.chosen", { count: ticked.length, total: there.length });
    this.dispatchEvent(new CustomEvent("sources-changed", { bubbles: true, detail: { ready: ready.length, ticked: ticked.length, total: there.length } }));
  }

  filter() {
    const wanted = this.find.value.trim().toLowerCase();
    for (const [id, { element, source }] of this.rows)
      element.hidden = this.leaving.has(id) || ![source.name, ...source.tags].some((text) => text.toLowerCase().includes(wanted));
  }

  narrowed() {
    const ready = [...this.rows.values()].filter(({ source }) => isReady(source) && !this.leaving.has(source.id));
    const [on, off] = [true, false].map((ticked) => ready.filter((row) => row.tick.checked === ticked).map((row) => row.source.id));
    if (ready.length && !on.length) return null;
    off.push(...this.leaving.keys());
    if (!off.length) return {};
    return on.length <= MOST_IDS || off.length > MOST_IDS ? { sources: on } : { filters: { not: { source: off } } };
  }

  tickAll(ticked) {
    for (const row of this.rows.values()) if (!row.element.hidden) this.tick(row, ticked);
    this.ticked();
  }

  tick(row, ticked) {
    row.tick.checked = ticked;
    this.unticked[ticked ? "delete" : "add"](row.source.id);
  }

  ticked() {
    sessionStorage.setItem(this.memory(), JSON.stringify([...this.unticked]));
    this.tell();
  }

  actions() {
    return (this.acts ??= {
      tick: (row) => (this.tick(row, row.tick.checked), this.ticked()),
      rename: (row) => this.edit(row, "rename", row.source.name, (name) => ({ name })),
      tag: (row) => this.edit(row, "tag", row.source.tags.join(", "), (text) => ({ tags: text.split(",").map((tag) => tag.trim()).filter(Boolean) }), t("source.tag.hint")),
      retry: (row, password) => this.again(row, password),
      refresh: (row) => this.change(row, async () => (await post(`/sources/${row.source.id}/refresh`)).source),
      save: (row) => download(`/sources/${row.source.id}/content`, row.source.name).catch(failed),
      remove: (row) => this.drop(row),
    });
  }

  async edit(row, what, value, changes, hint = "") {
    const given = await ask(t(`source.${what}`), { value, label: t(`source.${what}.label`), action: t("save"), hint });
    if (given !== null) await this.change(row, () => patch(`/sources/${row.source.id}`, changes(given)));
  }

  again(row, password) {
    const { id, state, job_id: job } = row.source;
    return this.change(row, async () => {
      // A job that failed goes on where it was; what was read once is read anew.
      if (state === "failed" && job && !password) await post(`/jobs/${job}/retry`).catch(() => post(`/sources/${id}/reparse`, {}));
      else await post(`/sources/${id}/reparse`, password ? { password } : {});
      return get(`/sources/${id}`);
    });
  }

  async change(row, work) {
    try {
      this.take([await work()]);
      this.look();
    } catch (error) {
      failed(error);
    }
  }

  /** Hide a source at once, and delete it when nobody took that back. */
  drop(row) {
    const { id, name } = row.source;
    const next = row.element.nextElementSibling ?? row.element.previousElementSibling;
    const gone = () => remove(`/sources/${id}`).then(() => this.lose(id), (error) => {
      if (error.status === 404) return this.lose(id);
      this.undo(id);
      failed(error);
    });
    row.element.hidden = true;
    this.leaving.set(id, toast(t("source.deleted", { name }), { ms: UNDO, gone, action: { label: t("undo"), run: () => this.undo(id) } }));
    if (route().source === id) go(address(this.notebook.id));
    (next?.querySelector("a") ?? this.querySelector("button")).focus();
    this.tell();
  }

  undo(id) {
    if (!this.leaving.has(id)) return;
    this.leaving.get(id)();
    this.leaving.delete(id);
    this.rows.get(id).element.hidden = false;
    this.tell();
  }

  lose(id) {
    this.leaving.delete(id);
    this.rows.get(id)?.element.remove();
    this.rows.delete(id);
    this.tell();
  }

  /** The page goes away: what is hidden is deleted now. */
  flush() {
    for (const [id, end] of this.leaving) {
      end();
      send("DELETE", `/sources/${id}`, { keepalive: true }).catch(() => {});
    }
    this.leaving.clear();
  }

  async follow() {
    let before = "";
    for await (const { data } of events(`/notebooks/${this.notebook.id}/events`, { signal: this.stop.signal })) {
      for (const one of data.running) {
        const row = this.rows.get(one.source_id);
        if (row && isWorking(row.source)) row.progress(one);
      }
      this.sum(data);
      const counts = [data.queued, data.working, data.ready, data.failed].join();
      if (counts !== before || data.running.some((one) => !this.rows.has(one.source_id))) this.look();
      before = counts;
    }
  }

  sum({ left: open, done, total, left_seconds: seconds }) {
    const was = this.summary.hidden;
    this.summary.hidden = !open || total < 2;
    this.summary.textContent = open ? [t("sources.progress", { done, total }), seconds > 2 && t("source.left", { time: left(seconds) })].filter(Boolean).join(" · ") : "";
    if (!was && !open) announce(t("sources.done"));
  }

  /** Read again, soon and not too often, what is being worked at, and what came in by other ways. */
  look() {
    this.wanted = true;
    this.looking ??= setTimeout(async () => {
      this.wanted = false;
      const open = [...this.rows.values()].filter((row) => isWorking(row.source)).map((row) => row.source.id);
      await this.read(open.sort()[0] ?? "~").catch((error) => error.status && failed(error));
      this.looking = undefined;
      if (this.wanted && this.isConnected) this.look();
    }, this.rows.size > 400 ? REST * 2 : REST / 3);
  }

  /** Read the list, the newest first, as far as the source `oldest`. */
  async read(oldest) {
    let top = "~";
    for await (const page of pages(`/notebooks/${this.notebook.id}/sources`, {}, { signal: this.stop.signal })) {
      this.take(page);
      await breathe();
      const end = page.length < 200 ? "" : page.at(-1).id;
      const here = new Set(page.map((source) => source.id));
      for (const id of [...this.rows.keys()]) if (id < top && id >= end && !here.has(id)) this.lose(id); // deleted elsewhere
      top = end;
      if (oldest > end) return;
    }
  }
});
