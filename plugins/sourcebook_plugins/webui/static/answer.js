// One answer: written as it streams, then put in its final form, with what can be done with it.

import { breathe } from "./api.js";
import { chip, chipped, queue, where } from "./citations.js";
import { announce, button, fill, h, icon, toast, trouble, trusted } from "./dom.js";
import { left, t } from "./strings.js";
import { Writer } from "./writer.js";

const LONG = 40; // blocks; of a longer answer only what is in sight is laid out

/** An answer's element and how it grows. `actions`: `regenerate(answer)`, `again(answer)`; `grown()` after each addition. */
export class Answer {
  constructor(notebook, actions, grown) {
    Object.assign(this, { notebook, actions, grown, began: performance.now(), text: "", citations: [] });
    this.reasoning = h("div", { class: "reasoning-text" });
    this.summary = h("summary", {}, t("answer.thinking"));
    this.details = h("details", { class: "reasoning", hidden: true, open: true, ontoggle: () => (this.touched = true) }, this.summary, this.reasoning);
    this.status = h("p", { class: "status small muted", role: "status" }, h("span", { class: "dots", "aria-hidden": "true" }), t("answer.searching"));
    this.body = h("div", { class: "prose streaming" });
    this.foot = h("div", { class: "foot" });
    this.element = h("article", { class: "answer", "aria-label": t("answer.label"), "aria-busy": "true" }, this.details, this.status, this.body, this.foot);
    this.thoughts = new Writer(this.reasoning, notebook, grown);
    this.writer = new Writer(this.body, notebook, grown);
  }

  /** Take one event of the run. */
  take(event) {
    this[`on_${event.type.replace(".", "_")}`]?.(event);
  }

  on_run_started({ message_id: id }) {
    this.id = id;
  }

  on_retrieval({ passages }) {
    const sources = new Set(passages.map((one) => one.source_id)).size;
    this.say(passages.length ? t("answer.reading", { count: passages.length, sources: t("sources.count", { count: sources }) }) : t("answer.nothing"));
  }

  say(words) {
    this.status.lastChild.replaceWith(words);
  }

  on_reasoning({ delta }) {
    if (this.details.hidden) this.details.hidden = false;
    this.thoughts.add(delta);
  }

  on_content({ delta }) {
    if (!this.text) this.begin();
    this.text += delta;
    this.writer.add(delta);
  }

  /** The first word: thoughts fold away by themselves. */
  begin() {
    this.status.hidden = true;
    this.fold((performance.now() - this.began) / 1000);
  }

  fold(seconds) {
    if (this.details.hidden) return;
    this.thoughts.flush();
    this.details.open = false;
    this.summary.textContent = seconds ? t("answer.thought", { time: left(seconds) }) : t("answer.thoughts");
  }

  on_citation(citation) {
    this.citations.push(citation);
    this.writer.cite(citation);
  }

  on_snapshot({ reasoning, content, citations }) {
    this.restart();
    if (reasoning) this.on_reasoning({ delta: reasoning });
    if (content) this.on_content({ delta: content });
    for (const one of citations) this.on_citation(one);
  }

  /** Begin anew with what comes from the start. */
  restart() {
    fill(this.body);
    fill(this.reasoning);
    this.text = "";
    this.citations = [];
    this.thoughts = new Writer(this.reasoning, this.notebook, this.grown);
    this.writer = new Writer(this.body, this.notebook, this.grown);
  }

  on_error({ problem, retryable }) {
    this.problem = { ...problem, retryable };
  }

  on_done(event) {
    this.thoughts.flush();
    if (this.writer.nearlyDone) this.writer.flush(); // else its final form is there sooner
    Object.assign(this, { id: event.message_id, text: event.text, citations: event.citations });
    this.end(event);
    announce(this.problem ? `${this.problem.title}. ${this.problem.detail}` : t("answer.done", { count: event.citations.length }), Boolean(this.problem));
  }

  /** It is over: `finish` and `grounded` say how, where that is known. */
  end({ finish = "stop", grounded = true } = {}) {
    this.status.hidden = true;
    this.fold();
    this.element.removeAttribute("aria-busy");
    const told = this.problem ? h("div", { class: "note bad stack tight" }, trouble(this.problem, () => this.actions.again(this))) : this.remark(finish, grounded);
    fill(this.foot, told, this.citations.some((one) => !one.supported) && h("p", { class: "small unsupported-note" }, icon("warn"), t("answer.unsupported")), this.text && this.tools());
  }

  remark(finish, grounded) {
    const words = { cancelled: "answer.stopped", length: "answer.length", content_filter: "answer.filtered" }[finish];
    if (words) return h("p", { class: "note small" }, t(words));
    return this.text && !grounded && h("p", { class: "note warn small" }, t("answer.ungrounded"));
  }

  /** It could not be asked at all. */
  refused(problem) {
    this.problem = problem;
    this.end();
    announce(problem.detail, true);
  }

  tools() {
    const tool = (name, key, run) => button(name, { label: t(key), onclick: run });
    const save = tool("note", "answer.save", () => this.save());
    save.addEventListener("pointerdown", (event) => event.preventDefault()); // which would take the selection away
    return h("div", { class: "row tools" }, tool("copy", "answer.copy", () => this.copy()), save, tool("retry", "answer.regenerate", () => this.actions.regenerate(this)));
  }

  /** The stored message in the place of what streamed, piece by piece so that a long one does not hold the page. */
  async show(message) {
    Object.assign(this, { id: message.id, text: message.text, citations: message.citations });
    if (message.reasoning && this.details.hidden) {
      this.details.hidden = false;
      this.thoughts.add(message.reasoning);
      this.fold();
    }
    if (message.html === null) return this.writer.flush(); // too long to be rendered: the plain text stays, or comes
    const blocks = [...trusted(message.html).childNodes];
    const next = h("div", { class: blocks.length > LONG ? "prose long" : "prose" });
    const one = queue(message.citations);
    let began = performance.now();
    for (const block of blocks) {
      next.append(block);
      if (block instanceof Element) chipped(block, message.citations, this.notebook, message.text, one);
      if (performance.now() - began < 8) continue;
      await breathe();
      began = performance.now();
    }
    // A marker that Markdown swallowed, such as one behind a table's last cell, must not cost its citation.
    if (next.querySelectorAll(".chip").length < message.citations.length) next.append(...unplaced(message, next, this.notebook));
    this.body.replaceWith(next);
    this.body = next;
  }

  save() {
    const chosen = getSelection();
    const inside = !chosen.isCollapsed && this.body.contains(chosen.anchorNode) && this.body.contains(chosen.focusNode);
    const detail = inside ? { text: plain(chosen.getRangeAt(0)), message_id: this.id, selection: true } : { message_id: this.id };
    dispatchEvent(new CustomEvent("save-note", { detail }));
  }

  async copy() {
    const found = new Map(this.citations.map((one) => [one.n, one]));
    const lines = [...found].sort(([a], [b]) => a - b).map(([n, one]) => `[${n}] ${where(one)}: “${one.quote}”`);
    await copyText([this.text.trim(), lines.join("\n")].filter(Boolean).join("\n\n"));
    toast(t("answer.copied"), { ms: 3000 });
  }
}

function unplaced(message, shown, notebook) {
  const next = queue(message.citations);
  for (const one of shown.querySelectorAll(".chip")) next(Number(one.textContent));
  const missing = [...new Set(message.citations.map((one) => one.n))].filter((n) => ![...shown.querySelectorAll(".chip")].some((one) => Number(one.textContent) === n));
  return missing.length ? [h("p", { class: "small muted" }, t("answer.sources"), missing.map((n) => chip(n, next(n), notebook)))] : [];
}

/** A selection as text, its chips as `[n]`. */
function plain(range) {
  const copy = range.cloneContents();
  for (const one of copy.querySelectorAll(".chip")) one.replaceWith(` [${one.textContent}]`);
  const holder = h("div", { class: "unseen" }, copy);
  document.body.append(holder);
  const text = holder.innerText;
  holder.remove();
  return text.trim();
}

/** Put a text on the clipboard. */
export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = h("textarea", { class: "unseen", value: text }); // not on https, and not on this machine
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
