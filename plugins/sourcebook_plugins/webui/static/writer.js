// Text that arrives in pieces, written as it comes: at most once a frame, only ever added to, citations as chips.

import { bind, chip, codes, doubt, MARKER, numbersOf, part } from "./citations.js";
import { h } from "./dom.js";

const HALF = /[[【][\d\s,;]{0,190}$/; // a marker that may still close
const FRAME = 4000; // characters that one frame adds: more would be seen as a halt, and nobody reads as fast
const LONG = 3000; // characters of one paragraph, so that a line without an end does not make every frame dearer

/** Writes into `body`. `written` is called after each frame's addition. */
export class Writer {
  constructor(body, notebook, written) {
    // `at`: how many code points are written; `open`: chips without a citation; `early`: citations without a chip.
    Object.assign(this, { body, notebook, written, text: "", rest: "", at: 0, open: [], early: [], cited: new Set(), frame: 0 });
  }

  add(piece) {
    this.text += piece;
    this.rest += piece;
    this.soon();
  }

  soon() {
    // Where the page is hidden no frame comes, and nothing need be shown.
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.write(FRAME);
    });
  }

  /** Write all that has come: nothing follows, so that nothing is waited for. */
  flush() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.write(Infinity);
  }

  /** Write it all, and no citation comes any more: a number that has none is but a number. */
  settle() {
    this.flush();
    for (const { n, made } of this.open) made.replaceWith(`[${n}]`);
    this.open = [];
  }

  /** Whether little enough is left for one frame. */
  get nearlyDone() {
    return this.rest.length < FRAME;
  }

  write(most) {
    const piece = this.rest.slice(0, most);
    const held = most === Infinity ? null : HALF.exec(piece);
    const ready = piece.slice(0, held?.index ?? piece.length);
    const waits = this.rest.length > piece.length;
    this.rest = this.rest.slice(ready.length);
    if (waits) this.soon();
    let from = 0;
    for (const match of ready.matchAll(MARKER)) {
      this.put(ready.slice(from, match.index));
      for (const n of numbersOf(match[0])) this.chip(n);
      this.at += match[0].length;
      from = match.index + match[0].length;
    }
    this.put(ready.slice(from));
    this.written();
  }

  put(text) {
    this.at += codes(text);
    const [first, ...others] = text.split(/\n{2,}/);
    if (first) this.append(first);
    for (const one of others) {
      this.paragraph = null;
      if (one) this.append(one);
    }
  }

  append(text) {
    if (!this.paragraph || this.length > LONG) {
      this.body.append((this.paragraph = h("p")));
      this.length = 0;
    }
    this.length += text.length;
    const last = this.paragraph.lastChild;
    if (last instanceof Text) last.appendData(text);
    else this.paragraph.append(text);
  }

  chip(n) {
    const made = chip(n);
    if (!this.paragraph) this.append("");
    this.paragraph.append(made);
    // The nearest sentence before it: a marker that stands for nothing takes no other's citation.
    const mine = this.early.filter((one) => one.n === n && one.answer_end <= this.at).sort((a, b) => b.answer_end - a.answer_end)[0];
    if (!mine) return this.open.push({ n, made, at: this.at });
    this.early.splice(this.early.indexOf(mine), 1);
    this.bind(made, mine);
  }

  /** A citation of this text, which may come before its words, after them, or more than once. */
  cite(citation) {
    if (this.cited.has(citation.id)) return;
    this.cited.add(citation.id);
    const at = this.open.findIndex((one) => one.n === citation.n && one.at >= citation.answer_end);
    if (at < 0) this.early.push(citation);
    else this.bind(this.open.splice(at, 1)[0].made, citation);
  }

  bind(made, citation) {
    bind(made, citation, this.notebook);
    if (!citation.supported) doubt(made, part(this.text, citation.answer_start, citation.answer_end));
  }
}
