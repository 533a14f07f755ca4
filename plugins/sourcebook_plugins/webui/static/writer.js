// Text that arrives in pieces, written as it comes: at most once a frame, only ever added to, citations as chips.

import { bind, chip, doubt, MARKER, part } from "./citations.js";
import { h } from "./dom.js";

const HALF = /[[【][\d\s,;]{0,190}$/; // a marker that may still close
const FRAME = 4000; // characters that one frame adds: more would be seen as a halt, and nobody reads as fast
const LONG = 3000; // characters of one paragraph, so that a line without an end does not make every frame dearer

/** Writes into `body`. `written` is called after each frame's addition. */
export class Writer {
  constructor(body, notebook, written) {
    Object.assign(this, { body, notebook, written, text: "", astral: false, rest: "", open: [], early: [], frame: 0 });
  }

  add(piece) {
    this.text += piece;
    this.astral ||= /[\ud800-\udfff]/.test(piece);
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
      for (const n of new Set(match[0].match(/\d+/g).map(Number))) this.chip(n);
      from = match.index + match[0].length;
    }
    this.put(ready.slice(from));
    this.written();
  }

  put(text) {
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
    const at = this.early.findIndex((citation) => citation.n === n);
    const made = chip(n);
    if (!this.paragraph) this.append("");
    this.paragraph.append(made);
    if (at < 0) this.open.push([n, made]);
    else this.bind(made, this.early.splice(at, 1)[0]);
  }

  /** A citation of this text: the first marker with its number that has none gets it. */
  cite(citation) {
    const at = this.open.findIndex(([n]) => n === citation.n);
    if (at < 0) this.early.push(citation);
    else this.bind(this.open.splice(at, 1)[0][1], citation);
  }

  bind(made, citation) {
    bind(made, citation, this.notebook);
    if (!citation.supported) doubt(made, part(this.text, citation.answer_start, citation.answer_end, this.astral));
  }
}
