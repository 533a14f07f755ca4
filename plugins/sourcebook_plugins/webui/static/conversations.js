// Which conversation a notebook's chat shows: chosen, named, deleted.

import { all, patch, remove } from "./api.js";
import { ask, button, confirm, failed, fill, h, icon, menu } from "./dom.js";
import { ago, t } from "./strings.js";

/** What else can be done with a conversation: functions of it that return an item for its menu. */
export const conversationActions = [];

/** The bar above a chat. `open(id)` shows a conversation, "" an empty one. */
export class Conversations {
  constructor(notebook, open) {
    Object.assign(this, { notebook, open, current: null });
    this.title = h("span", { class: "cut" });
    this.list = h("div", { class: "menu talks", popover: "auto", "aria-label": t("talk.list"), role: "dialog" });
    this.list.addEventListener("toggle", (event) => this.chooser.setAttribute("aria-expanded", String(event.newState === "open")));
    this.chooser = h("button", { type: "button", class: "button quiet chooser", "aria-haspopup": "dialog", "aria-expanded": "false", title: t("talk.list"), onclick: () => this.choose() }, this.title, icon("down"));
    this.more = menu(t("talk.menu"), () => this.items());
    this.fresh = button("add", { label: t("talk.new"), onclick: () => open("") });
    this.element = h("div", { class: "row talk-bar" }, this.chooser, h("span", { class: "grow" }), this.fresh, this.more, this.list);
    this.show(null);
  }

  /** Name what is open: a conversation, or null for an empty one. */
  show(conversation) {
    this.current = conversation;
    this.title.textContent = conversation?.title || t("talk.untitled");
    this.chooser.setAttribute("aria-label", `${t("talk.list")}: ${this.title.textContent}`); // "+" has the same words
    this.more.hidden = !conversation;
  }

  async choose() {
    fill(this.list, h("p", { class: "small muted" }, t("loading")));
    this.list.showPopover();
    const at = this.chooser.getBoundingClientRect();
    Object.assign(this.list.style, { left: `${at.left}px`, top: `${at.bottom + 4}px`, maxWidth: `${Math.min(420, innerWidth - at.left - 12)}px` });
    try {
      const found = await all("/conversations", { notebook: this.notebook.id });
      const take = (one) => () => (this.list.hidePopover(), this.open(one.id));
      fill(this.list, found.map((one) => h("button", { type: "button", "aria-current": one.id === this.current?.id && "true", onclick: take(one) },
        h("span", { class: "grow cut" }, one.title || t("talk.untitled")), h("span", { class: "small muted" }, ago(one.updated_at)))));
      if (!found.length) fill(this.list, h("p", { class: "small muted" }, t("talk.none")));
      this.list.querySelector("button")?.focus();
    } catch (error) {
      this.list.hidePopover();
      failed(error);
    }
  }

  items() {
    const one = this.current;
    return [
      { label: t("source.rename"), icon: "edit", run: () => this.rename(one) },
      ...conversationActions.map((action) => action(one)),
      { label: t("source.delete"), icon: "trash", danger: true, run: () => this.drop(one) },
    ];
  }

  async rename(one) {
    const title = await ask(t("talk.rename"), { value: one.title, label: t("talk.name"), action: t("save") });
    if (title) await patch(`/conversations/${one.id}`, { title }).then((changed) => this.show(changed), failed);
  }

  async drop(one) {
    if (!(await confirm(t("talk.delete"), t("talk.delete.sure", { title: one.title }), t("source.delete")))) return;
    await remove(`/conversations/${one.id}`).then(() => this.open(""), failed);
  }
}
