// Which conversation a notebook's chat shows: chosen, named, deleted.

import { all, patch, remove } from "./api.js";
import { ask, button, confirm, failed, h, icon, menu } from "./dom.js";
import { runOf } from "./runs.js";
import { ago, t } from "./strings.js";

/** What else can be done with a conversation: functions of it that return an item for its menu. */
export const conversationActions = [];

/** The bar above a chat. `open(id)` shows a conversation, "" an empty one. */
export class Conversations {
  constructor(notebook, open) {
    Object.assign(this, { notebook, open, current: null });
    this.title = h("span.cut");
    this.chooser = menu(t("talk.list"), () => this.all(), h("button.button.quiet.chooser", { type: "button", title: t("talk.list") }, this.title, icon("down")));
    this.more = menu(t("talk.menu"), () => this.items());
    this.fresh = button("add", { label: t("talk.new"), onclick: () => open("") });
    this.element = h("div.row.talk-bar", this.chooser, h("span.grow"), this.fresh, this.more);
    this.show(null);
  }

  /** Name what is open: a conversation, or null for an empty one. */
  show(conversation) {
    this.current = conversation;
    this.title.textContent = conversation?.title || t("talk.new");
    this.chooser.setAttribute("aria-label", `${t("talk.list")}: ${this.title.textContent}`); // "+" has the same words
    this.more.hidden = !conversation;
  }

  async all() {
    const found = await all("/conversations", { notebook: this.notebook.id });
    const running = (one) => runOf(one.id) && h("span.dots", { role: "img", "aria-label": t("talk.running") });
    return found.length ? found.map((one) => ({
      label: one.title || t("talk.new"), note: [running(one), h("span.small.muted", ago(one.updated_at))],
      current: one.id === this.current?.id, run: () => this.open(one.id),
    })) : [t("talk.none")];
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
    const title = await ask(t("talk.rename"), { value: one.title, label: t("notebooks.name"), action: t("save") });
    if (title) await patch(`/conversations/${one.id}`, { title }).then((changed) => this.show(changed), failed);
  }

  async drop(one) {
    if (!(await confirm(t("talk.delete"), t("talk.delete.sure", { title: one.title }), t("source.delete")))) return;
    await remove(`/conversations/${one.id}`).then(() => this.open(""), failed);
  }
}
