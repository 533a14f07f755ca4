// Notes of a notebook: what a reader wrote, and answers or parts of them, whose citations stay alive.

import { copyText } from "../answer.js";
import { all, download, get, patch, post, remove, send } from "../api.js";
import { chipped } from "../citations.js";
import { conversationActions } from "../conversations.js";
import { announce, button, confirm, failed, fill, h, menu, toast, trusted } from "../dom.js";
import { may } from "../me.js";
import { ago, language, t } from "../strings.js";

const FORMATS = ["md", "docx"];

const fileName = (title, format) => `${title.replace(/[\\/:*?"<>|\s]+/g, " ").slice(0, 100).trim() || "export"}.${format}`;
const exported = (path, title, format) => ({
  label: t(`export.${format}`), icon: "download",
  run: () => download(`${path}/export`, fileName(title, format), { format, lang: language }).catch(failed),
});
for (const format of FORMATS) conversationActions.push((one) => exported(`/conversations/${one.id}`, one.title, format));

customElements.define("sb-notes", class extends HTMLElement {
  async connectedCallback() {
    this.list = h("ul.plain.scroll.notes", { "aria-label": t("notes.title") });
    try {
      this.writes = await may("write");
      await this.overview();
    } catch (error) {
      failed(error);
    }
  }

  /** All of them, newest first. `focus`: the note to stand on. */
  async overview(focus = "") {
    this.open = null;
    const found = await all(`/notebooks/${this.notebook.id}/notes`);
    if (this.open || !this.isConnected) return;
    fill(this.list, found.map((note) => this.row(note)));
    const make = this.writes && h("div.pane-head", button("add", { class: "wide", onclick: () => this.edit() }, t("notes.new")));
    fill(this, make, found.length ? this.list : h("p.empty.muted", t("notes.none"), " ", this.writes && t("notes.none.hint")));
    if (focus) (this.querySelector(`[data-note="${CSS.escape(focus)}"]`) ?? this.querySelector("button"))?.focus();
  }

  row(note) {
    const words = note.text.slice(0, 400).replace(/[#*_`>|]+|\s*\[\d[\d,; ]*\]/g, "");
    return h("li.note-row",
      h("button.grow.note-open", { type: "button", "data-note": note.id, onclick: () => this.show(note.id) },
        h("strong.clamp", note.title || t("notes.untitled")), h("span.small.muted.clamp", words), h("span.small.muted", ago(note.updated_at))),
      this.menu(note));
  }

  menu(note) {
    const { id } = note;
    return menu(t("notes.menu", { name: note.title || t("notes.untitled") }), () => [
      this.writes && { label: t("notes.edit"), icon: "edit", run: () => this.show(id, true) },
      { label: t("notes.copy"), icon: "copy", run: () => this.copy(id) },
      ...FORMATS.map((format) => exported(`/notes/${id}`, note.title, format)),
      this.writes && { label: t("source.delete"), icon: "trash", danger: true, run: () => this.drop(note) },
    ]);
  }

  /** One note, to be read; with `edit` to be changed. */
  async show(id, edit = false) {
    try {
      const note = this.open = await get(`/notes/${id}`, { html: true });
      if (edit) return this.edit(note);
      const body = note.html === null ? h("p.plain-text", note.text) : chipped(trusted(note.html), note.citations, this.notebook.id);
      const title = h("h3.grow", { tabindex: "-1" }, note.title || t("notes.untitled"));
      const change = this.writes && button("edit", { label: t("notes.edit"), onclick: () => this.edit(note) });
      fill(this, h("div.row.view-bar", button("back", { label: t("notes.back"), onclick: () => this.overview(id).catch(failed) }), title, change, this.menu(note)),
        h("article.scroll.note-body.prose", { tabindex: "0", "aria-label": note.title || t("notes.untitled") }, body));
      title.focus({ preventScroll: true });
    } catch (error) {
      failed(error);
    }
  }

  /** Write a note, or change one. What is typed is kept in this tab until it is stored or given up. */
  edit(note = { id: "", title: "", text: "", citations: [] }) {
    this.open = note;
    const place = `note:${note.id || this.notebook.id}`;
    const kept = JSON.parse(sessionStorage.getItem(place) ?? "null");
    const title = h("input", { value: kept?.title ?? note.title, maxlength: 500, "aria-label": t("notes.name"), placeholder: t("notes.name") });
    const text = h("textarea.note-text", { value: kept?.text ?? note.text, maxlength: 500_000, "aria-label": t("notes.text"), placeholder: t("notes.hint") });
    const remember = () => sessionStorage.setItem(place, JSON.stringify({ title: title.value, text: text.value }));
    const back = () => (sessionStorage.removeItem(place), note.id ? this.show(note.id) : this.overview().catch(failed));
    const shown = h("div.prose.note-body.scroll", { hidden: true, tabindex: "0", role: "region", "aria-label": t("notes.preview") });
    const preview = button("", { class: "quiet", "aria-pressed": "false", onclick: () => this.preview(note, text, shown, preview) }, t("notes.preview"));
    const submit = async () => {
      const body = { title: title.value.trim(), text: text.value };
      try {
        const done = note.id
          ? await patch(`/notes/${note.id}`, body, { headers: { "If-Match": `"v${note.version}"` } })
          : await post(`/notebooks/${this.notebook.id}/notes`, body);
        sessionStorage.removeItem(place);
        announce(t("notes.saved"));
        await this.show(done.id);
      } catch (error) {
        failed(error);
      }
    };
    const key = (event) => {
      if (event.key === "Escape") back();
      else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
    };
    fill(this, h("form.note-form", { onsubmit: submit, oninput: remember, onkeydown: key }, title, text, shown,
      h("div.row.wrap", preview, h("span.grow"), button("", { class: "quiet", onclick: back }, t("cancel")), h("button.button.primary", t("save")))));
    (note.id ? text : title).focus();
  }

  /** What the server makes of the text, in the place of the text, and back. */
  async preview(note, text, shown, toggle) {
    const showing = shown.hidden;
    try {
      if (showing) {
        const { html } = await post("/markdown", { text: text.value });
        fill(shown, html === null ? text.value : chipped(trusted(html), note.citations, this.notebook.id));
      }
      [shown.hidden, text.hidden] = [!showing, showing];
      toggle.setAttribute("aria-pressed", String(showing));
    } catch (error) {
      failed(error);
    }
  }

  /** Keep an answer, or what is selected of it. */
  async save({ message_id, text, title = "" }) {
    try {
      const made = await post(`/notebooks/${this.notebook.id}/notes`, { title, ...(text && { text }), ...(message_id && { message_id }) });
      if (!this.open) await this.overview();
      toast(t("notes.saved"), { action: { label: t("notes.open"), run: () => (this.closest("sb-notebook").turnTo("notes"), this.show(made.id)) } });
    } catch (error) {
      failed(error);
    }
  }

  /** With its references, as the server writes them. */
  async copy(id) {
    try {
      await copyText(await (await send("GET", `/notes/${id}/export`, { query: { format: "md", lang: language } })).text());
      toast(t("answer.copied"), { ms: 3000 });
    } catch (error) {
      failed(error);
    }
  }

  async drop(note) {
    if (!(await confirm(t("notes.delete"), t("notes.delete.sure", { title: note.title || t("notes.untitled") }), t("source.delete")))) return;
    await remove(`/notes/${note.id}`).then(() => this.overview("none")).catch(failed);
    announce(t("source.deleted", { name: note.title }));
  }
});
