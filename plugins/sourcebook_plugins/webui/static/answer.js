// One answer: written as it streams, then put in its final form, with what can be done with it.

import { breathe } from "./api.js";
import { byMarker, chip, chipped, where } from "./citations.js";
import { announce, button, fill, h, icon, toast, trouble, trusted } from "./dom.js";
import { left, t } from "./strings.js";
import { Writer } from "./writer.js";

const LONG = 40; // blocks; of a longer answer only what is in sight is laid out

/** An answer's element and how it grows. `chat` is what shows it, or null: it `follows()` after each addition, and can
 * `regenerate(answer)` and try `again(answer)`. */
export class Answer {
  constructor(notebook, chat = null) {
    Object.assign(this, { notebook, chat, seq: 0, began: performance.now() });
    this.reasoning = h("div.reasoning-text");
    this.summary = h("summary", t("answer.thinking"));
    this.details = h("details.reasoning", { hidden: true, open: true }, this.summary, this.reasoning);
    this.status = h("p.row.small.muted", { role: "status" }, h("span.dots", { "aria-hidden": "true" }), t("answer.searching"));
    this.body = h("div.prose.streaming");
    this.foot = h("div.foot");
    this.element = h("article.answer", { "aria-label": t("answer.label"), "aria-busy": "true" }, this.details, this.status, this.body, this.foot);
    this.restart();
  }

  /** Take one event of the run. What is added to the text is added once, however often it is told. */
  take(event) {
    if (event.delta !== undefined && event.seq <= this.seq) return;
    this.seq = event.seq;
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
    if (this.details.hidden || this.folded) return;
    this.folded = true; // by itself once: then it is the reader's
    this.thoughts.settle();
    this.details.open = false;
    this.summary.textContent = seconds ? t("answer.thought", { time: left(seconds) }) : t("answer.thoughts");
  }

  on_citation(citation) {
    if (this.citations.some((one) => one.id === citation.id)) return;
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
    this.text = "";
    this.citations = [];
    this.thoughts = this.written(this.reasoning, this.thoughts);
    this.writer = this.written(this.body, this.writer);
  }

  /** A writer into what is emptied for it; `before` writes no more. */
  written(body, before) {
    cancelAnimationFrame(before?.frame);
    fill(body);
    return new Writer(body, this.notebook, () => this.chat?.follows());
  }

  on_error({ problem, retryable }) {
    this.problem = { ...problem, retryable };
  }

  on_done(event) {
    this.thoughts.settle();
    for (const one of event.citations) this.on_citation(one);
    if (this.writer.nearlyDone) this.writer.flush(); // else its final form is there sooner
    Object.assign(this, { id: event.message_id, text: event.text });
    this.end(event);
    announce(this.problem ? `${this.problem.title}. ${this.problem.detail}` : t("answer.done", { count: event.citations.length }), Boolean(this.problem));
  }

  /** It is over: `finish` and `grounded` say how, where that is known. */
  end({ finish = "stop", grounded = true } = {}) {
    this.status.hidden = true;
    this.fold();
    this.element.removeAttribute("aria-busy");
    const told = this.problem ? h("div.note.bad.stack.tight", trouble(this.problem, () => this.chat.again(this))) : this.remark(finish, grounded);
    fill(this.foot, told, this.citations.some((one) => !one.supported) && h("p.row.small.unsupported-note", icon("warn"), t("answer.unsupported")), this.id && this.tools());
  }

  remark(finish, grounded) {
    const words = { cancelled: "answer.stopped", length: "answer.length", content_filter: "answer.filtered" }[finish];
    if (words) return h("p.note.small", t(words));
    return this.text && !grounded && h("p.note.warn.small", t("answer.ungrounded"));
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
    return h("div.row.tools", this.text && [tool("copy", "answer.copy", () => this.copy()), save], tool("retry", "answer.regenerate", () => this.chat.regenerate(this)));
  }

  /** The stored message in the place of what streamed, piece by piece so that a long one does not hold the page. */
  async show(message) {
    Object.assign(this, { id: message.id, text: message.text, citations: message.citations });
    if (message.reasoning && this.details.hidden) {
      this.details.hidden = false;
      this.thoughts.add(message.reasoning);
      this.fold();
    }
    if (message.html === null) return this.settle(); // too long to be rendered: the plain text stays, or comes
    const blocks = [...trusted(message.html).childNodes];
    const next = h("div", { class: blocks.length > LONG ? "prose long" : "prose" });
    const one = byMarker(message.text, message.citations);
    let began = performance.now();
    for (const block of blocks) {
      next.append(block);
      if (block instanceof Element) chipped(block, message.citations, this.notebook, message.text, one);
      if (performance.now() - began < 8) continue;
      await breathe();
      began = performance.now();
    }
    // A marker that Markdown swallowed, such as one behind a table's last cell, must not cost its citation.
    const placed = new Set([...next.querySelectorAll(".chip")].map((made) => Number(made.textContent)));
    const missing = new Map(message.citations.filter(({ n }) => !placed.has(n)).map((made) => [made.n, made]));
    if (missing.size) next.append(h("p.small.muted", t("answer.sources"), [...missing].map(([n, made]) => chip(n, made, this.notebook))));
    this.body.replaceWith(next);
    this.body = next;
  }

  /** What came is all, and stays as it is: the plain text with its chips. */
  settle() {
    if (this.writer.text !== this.text) (this.writer = this.written(this.body, this.writer)).add(this.text);
    for (const one of this.citations) this.writer.cite(one);
    this.writer.settle();
  }

  save() {
    const chosen = getSelection();
    const inside = !chosen.isCollapsed && this.body.contains(chosen.anchorNode) && this.body.contains(chosen.focusNode);
    const detail = inside ? { text: plain(chosen.getRangeAt(0)), message_id: this.id, selection: true } : { message_id: this.id };
    document.querySelector("sb-notes").save(detail);
  }

  async copy() {
    const found = new Map(this.citations.map((one) => [one.n, one]));
    const lines = [...found].sort(([a], [b]) => a - b).map(([n, one]) => `[${n}] ${where(one)}: “${one.quote}”`);
    await copyText([this.text.trim(), lines.join("\n")].filter(Boolean).join("\n\n"));
    toast(t("answer.copied"), { ms: 3000 });
  }
}

/** A selection as text, its chips as `[n]`. */
function plain(range) {
  const copy = range.cloneContents();
  for (const one of copy.querySelectorAll(".chip")) one.replaceWith(` [${one.textContent}]`);
  const holder = h("div.unseen", copy);
  document.body.append(holder);
  const text = holder.innerText;
  holder.remove();
  return text.trim();
}

/** Put a text on the clipboard. */
export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = h("textarea.unseen", { value: text }); // not on https, and not on this machine
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
