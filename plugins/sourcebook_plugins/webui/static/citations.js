// Citations as numbered chips at their place in the text. Hover or focus shows quote and place, a click opens the source.

import { fill, h, place } from "./dom.js";
import { address, go } from "./router.js";
import { t } from "./strings.js";

/** `[1]`, `[1, 2]` and the like, as the server reads them. */
export const MARKER = /\[\d{1,3}(?:\s{0,2}[,;]\s{0,2}\d{1,3}){0,20}\]|【\d{1,3}】/g;

const held = new WeakMap(); // chip -> {citation, notebook}

/** A chip for number `n`. Without a citation it waits for `bind`, and says nothing. */
export function chip(n, citation, notebook) {
  const made = h("button.chip", { type: "button", disabled: true }, String(n));
  if (citation) bind(made, citation, notebook);
  return made;
}

/** Give a chip its citation. */
export function bind(made, citation, notebook) {
  held.set(made, { citation, notebook });
  made.disabled = false;
  made.classList.toggle("unsupported", !citation.supported);
  made.setAttribute("aria-label", t(citation.supported ? "cite.label" : "cite.label.unsupported", { n: citation.n, where: where(citation) }));
}

/** Where a citation's words stand: the source's name, and its page where it has one. */
export function where(citation) {
  const page = citation.places?.find((one) => one.page)?.page;
  return [citation.source_name ?? citation.title ?? "", page && t("cite.page", { page })].filter(Boolean).join(", ");
}

/** The numbers of a marker, each once. */
export const numbersOf = (marker) => [...new Set(marker.match(/\d+/g).map(Number))];

const ASTRAL = /[\ud800-\udfff]/;

/** The length of a text in code points, as the API counts. */
export const codes = (text) => (ASTRAL.test(text) ? [...text].length : text.length);

/** A range of a text in code points. */
export const part = (text, start, end) => (ASTRAL.test(text) ? [...text].slice(start, end).join("") : text.slice(start, end));

/** The citations of an answer, handed out marker by marker: `next(n)` is that of the next one with this number, if it has
 * one. A citation belongs to the first marker behind its sentence. */
export function byMarker(text, citations) {
  const markers = new Map();
  let [at, from] = [0, 0];
  for (const match of text.matchAll(MARKER)) {
    at += codes(text.slice(from, match.index));
    for (const n of numbersOf(match[0])) listed(markers, n).push({ at });
    at += match[0].length;
    from = match.index + match[0].length;
  }
  for (const citation of citations) {
    const free = markers.get(citation.n)?.find((one) => !one.citation && one.at >= citation.answer_end);
    if (free) free.citation = citation;
  }
  return (n) => markers.get(n)?.shift()?.citation;
}

const listed = (map, n) => map.get(n) ?? map.set(n, []).get(n);

/** The same for a note, which may have been edited: in order, and again the last there was. */
function inTurn(citations) {
  const left = new Map();
  for (const one of [...citations].sort((a, b) => a.answer_start - b.answer_start)) listed(left, one.n).push(one);
  return (n) => (left.get(n)?.length > 1 ? left.get(n).shift() : left.get(n)?.[0]);
}

/** Put chips into what the server rendered, in place of its `[n]`, each with the citation that `next` gives: see `byMarker`.
 * With `text`, the Markdown that it was rendered of, sentences that are not supported by what they cite are marked too.
 * Changes and returns `root`. */
export function chipped(root, citations, notebook, text = "", next = inTurn(citations)) {
  for (const node of textsOf(root)) {
    const inert = node.parentElement?.closest("code, a"); // its markers are counted, and stay what they are
    const parts = [];
    let from = 0;
    for (const match of node.data.matchAll(MARKER)) {
      const found = numbersOf(match[0]).map(next).filter(Boolean);
      if (inert || !found.length) continue;
      parts.push(node.data.slice(from, match.index).trimEnd(), ...found.map((one) => chip(one.n, one, notebook)));
      from = match.index + match[0].length;
    }
    if (!from) continue;
    const chips = parts.filter((part) => part instanceof Element);
    node.replaceWith(...parts.filter((part) => part !== ""), node.data.slice(from));
    for (const one of chips) {
      const { citation } = held.get(one);
      if (!citation.supported && text) doubt(one, part(text, citation.answer_start, citation.answer_end));
    }
  }
  return root;
}

function textsOf(root) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode())
    if (/[[【]/.test(walker.currentNode.data)) found.push(walker.currentNode);
  return found;
}

const LETTER = /[\p{L}\p{N}]/u;

/** Mark the sentence before a chip. Markdown's signs are gone from the page, so it is measured in letters and digits. */
export function doubt(made, sentence) {
  let count = [...sentence.replace(MARKER, "")].filter((one) => LETTER.test(one)).length;
  const block = made.closest("p, li, td, th, h1, h2, h3, h4, h5, h6, blockquote") ?? made.parentElement;
  const walker = document.createTreeWalker(block, NodeFilter.SHOW_TEXT);
  walker.currentNode = made;
  const marked = [];
  while (count > 0 && walker.previousNode()) {
    const node = walker.currentNode;
    if (node.parentElement.closest(".chip, .doubt")) continue;
    const codes = [...node.data];
    let at = codes.length;
    while (at > 0 && count > 0) if (LETTER.test(codes[--at])) count -= 1;
    marked.push([node, codes.slice(0, at).join("").length]);
  }
  for (const [node, from] of marked) {
    const part = from ? node.splitText(from) : node;
    if (part.data.trim()) {
      const span = h("span.doubt");
      part.replaceWith(span);
      span.append(part);
    }
  }
}

/** Where a citation is opened. */
export const target = (citation, notebook) =>
  address(notebook, citation.source_id, { document: citation.document_id, start: citation.start, end: citation.end });

/** A table's row as a reader says it; other words as they are. */
const cells = (quote) => quote.replace(/^\|.*$/gm, (row) => row.replace(/^\|\s*|\s*\|$/g, "").replace(/\s*\|\s*/g, " · "));

let card;

function show(made) {
  const { citation } = held.get(made);
  card ??= document.body.appendChild(h("div.quote", { id: "quote", role: "tooltip", popover: "manual" }));
  fill(card, h("strong", where(citation)), h("q.clamp", cells(citation.quote) || t("cite.removed")),
    !citation.supported && h("p.small", `? ${t("cite.unsupported")}`));
  card.showPopover();
  place(card, made.getBoundingClientRect());
  made.setAttribute("aria-describedby", "quote");
}

function hide() {
  if (card?.matches(":popover-open")) card.hidePopover();
}

const chipOf = (event) => (event.target instanceof Element ? event.target.closest(".chip") : null);
for (const name of ["pointerover", "focusin"])
  document.addEventListener(name, (event) => {
    if (card?.contains(event.target)) return; // it may be read, and its words taken
    held.has(chipOf(event)) ? show(chipOf(event)) : hide();
  });
document.addEventListener("focusout", hide);
document.addEventListener("scroll", hide, true);
document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
document.addEventListener("click", (event) => {
  const found = held.get(chipOf(event));
  if (!found) return;
  hide();
  if (found.citation.source_id && !found.citation.removed_at) go(target(found.citation, found.notebook));
});
