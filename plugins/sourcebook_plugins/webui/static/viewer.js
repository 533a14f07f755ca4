// A source opened at a place: its pages as pictures with the passage marked, or its text with the passage marked in it.

import { blobUrl, download, get } from "./api.js";
import { button, failed, fill, h, trouble } from "./dom.js";
import { address, go } from "./router.js";
import { t } from "./strings.js";

const PIECE = 6000; // code points of text that are loaded at once
const NEAR = 700; // pixels to an end of what is loaded
const DOTS = 2; // pixels of a page's picture for one of the points that boxes are measured in

customElements.define("sb-viewer", class extends HTMLElement {
  async connectedCallback() {
    const { source: id, query } = this.at;
    this.stop = new AbortController();
    this.range = query.end > 0 ? { start: Number(query.start) || 0, end: Number(query.end) } : null;
    this.document_ = query.document || undefined;
    this.heading = h("h3.cut.grow", { tabindex: "-1" }, t("loading"));
    this.modes = h("div.row.modes", { role: "group", "aria-label": t("view.as"), hidden: true });
    this.body = h("div.view-body");
    fill(this, h("header.row.view-bar", button("back", { label: t("view.back"), onclick: () => this.leave() }), this.heading,
      this.modes, button("download", { label: t("source.save"), onclick: () => download(`/sources/${id}/content`, this.source?.name ?? "source").catch(failed) })), this.body);
    this.addEventListener("keydown", (event) => this.key(event));
    this.heading.focus({ preventScroll: true });
    try {
      await this.open(id);
    } catch (error) {
      this.trouble(error);
    }
  }

  disconnectedCallback() {
    this.stop.abort();
    if (this.picture) URL.revokeObjectURL(this.picture);
  }

  async open(id) {
    this.source = await get(`/sources/${id}`, {}, { signal: this.stop.signal });
    this.heading.textContent = this.heading.title = this.source.name;
    this.pages = this.source.media_type === "application/pdf" ? Number(this.source.document?.metadata?.pages) || 0 : 0;
    if (this.range) await this.locate();
    this.page = Number(this.at.query.page) || this.places?.[0]?.page || 1;
    if (this.pages) {
      this.modes.hidden = false;
      fill(this.modes, this.mode("pages", "file"), this.mode("text", "sources"));
      return this.show("pages");
    }
    return this.show("text");
  }

  /** Where the range stands: its pages, with a box for each of its lines. */
  async locate() {
    const found = await this.text(this.range.start, this.range.end, { places: true });
    this.quote = found.text;
    this.places = found.places.map(({ place }) => place).filter((place) => place.page);
  }

  text(start, end, more = {}) {
    return get(`/sources/${this.source.id}/text`, { start, end, document: this.document_, ...more }, { signal: this.stop.signal });
  }

  mode(name, sign) {
    return button(sign, { label: t(`view.${name}`), "data-mode": name, onclick: () => this.show(name).catch((error) => this.trouble(error)) });
  }

  show(name) {
    for (const one of this.modes.children) one.setAttribute("aria-pressed", String(one.dataset.mode === name));
    this.showing = name;
    return name === "pages" ? this.showPages() : this.showText();
  }

  leave() {
    go(address(this.notebook.id));
  }

  key(event) {
    const turn = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") this.leave();
    else if (turn && this.showing === "pages" && !event.target.closest("input")) this.turn(this.page + turn);
  }

  async showPages() {
    const step = (name, key, by) => button(name, { label: t(key), onclick: () => this.turn(this.page + by) });
    this.back = step("back", "view.previous", -1);
    this.next = step("next", "view.next", 1);
    this.where = h("span.small.muted", { role: "status" });
    this.size = button("search", { label: t("view.zoom"), "aria-pressed": "false", onclick: () => this.zoom() });
    this.image = h("img.sheet");
    this.frame = h("div.scroll.sheet-frame", { tabindex: "0", role: "region", "aria-label": t("view.page") }, this.image);
    fill(this.body, h("div.row.view-tools", this.back, this.where, this.next, h("span.grow"), this.size), this.frame);
    await this.turn(this.page);
  }

  async turn(page) {
    if (page < 1 || page > this.pages) return;
    this.page = page;
    this.back.disabled = page <= 1;
    this.next.disabled = page >= this.pages;
    if (document.activeElement?.disabled) this.frame.focus(); // or the keys would be lost with the button
    this.where.textContent = t("view.where", { page, pages: this.pages });
    this.frame.setAttribute("aria-busy", "true");
    const marked = this.places?.some((place) => place.page === page);
    const query = marked ? { ...this.range, document: this.document_ } : {};
    try {
      const url = await blobUrl(`/sources/${this.source.id}/pages/${page}.png`, query, { signal: this.stop.signal });
      if (page !== this.page || !this.isConnected) return URL.revokeObjectURL(url);
      if (this.picture) URL.revokeObjectURL(this.picture);
      this.image.src = this.picture = url;
      this.image.alt = marked ? t("view.marked", { page, quote: this.quote }) : t("view.alt", { page, name: this.source.name });
      await this.image.decode();
      this.scrollToMark();
    } catch (error) {
      if (["page_changed", "no_pages"].includes(error.code)) {
        this.modes.hidden = true; // the file was replaced: what was read of it is kept
        return this.show("text");
      }
      this.trouble(error);
    } finally {
      this.frame.removeAttribute("aria-busy");
    }
  }

  zoom() {
    const large = this.image.classList.toggle("large");
    this.size.setAttribute("aria-pressed", String(large));
    this.scrollToMark();
  }

  scrollToMark() {
    const box = this.places?.find((place) => place.page === this.page)?.box;
    if (!box) return this.frame.scrollTo(0, 0);
    const shown = this.image.clientHeight / this.image.naturalHeight;
    this.frame.scrollTo({ top: box[1] * DOTS * shown - this.frame.clientHeight / 3, left: box[0] * DOTS * shown - 40 });
  }

  async showText() {
    const { start, end } = this.range ?? { start: 0, end: 0 };
    const found = await this.text(start, this.range ? end : PIECE, this.range ? { context: PIECE / 2 } : {});
    this.length = found.length;
    this.from = found.start - [...(found.before ?? "")].length;
    this.to = found.end + [...(found.after ?? "")].length;
    const mark = this.range && h("mark", { tabindex: "-1" }, found.text);
    this.prose = h("div.source-text", mark ? [found.before, mark, found.after] : found.text);
    const frame = h("div.scroll.text-frame", { tabindex: "0", role: "region", "aria-label": t("view.text"), onscroll: () => this.grow(frame) }, this.prose);
    fill(this.body, frame);
    mark?.scrollIntoView({ block: "center" });
    this.grow(frame);
  }

  /** Load more of the text while an end of it is near. */
  async grow(frame) {
    if (this.growing) return;
    this.growing = true;
    try {
      while (frame.isConnected) {
        const { scrollTop: at, scrollHeight: high, clientHeight } = frame;
        if (this.to < this.length && high - at - clientHeight < NEAR) {
          const found = await this.text(this.to, Math.min(this.length, this.to + PIECE));
          this.prose.append(found.text);
          this.to = found.end;
        } else if (this.from > 0 && at < NEAR) {
          const found = await this.text(Math.max(0, this.from - PIECE), this.from);
          const before = [frame.scrollTop, frame.scrollHeight];
          this.prose.prepend(found.text);
          if (frame.scrollTop === before[0]) frame.scrollTop += frame.scrollHeight - before[1]; // where the browser keeps no anchor
          this.from = found.start;
        } else break;
      }
    } catch (error) {
      failed(error);
    }
    this.growing = false;
  }

  trouble(error) {
    if (error.name === "AbortError" || error.status === 401) return;
    fill(this.body, h("div.empty.stack", trouble(error)));
  }
});
