// The chat pane: a conversation, its questions and answers, and the run that is being written.

import { get } from "./api.js";
import { Answer } from "./answer.js";
import { Conversations } from "./conversations.js";
import { announce, button, failed, fill, h, icon, toast } from "./dom.js";
import { full, Run, runOf } from "./runs.js";
import { narrowed } from "./sources.js";
import { t } from "./strings.js";

customElements.define("sb-chat", class extends HTMLElement {
  connectedCallback() {
    this.stop = new AbortController();
    this.memory = `talk:${this.notebook.id}`;
    this.talks = new Conversations(this.notebook, (id) => this.open(id));
    this.turns = h("div.turns");
    this.welcome = h("div.empty", h("h3", t("chat.welcome")), h("p.muted", t("chat.hint")), this.offers());
    this.scroller = h("div.scroll", { tabindex: "0", role: "region", "aria-label": t("chat.turns") }, this.welcome, this.turns);
    this.scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.pinned = true;
    // What comes into sight gets its real height only then.
    this.growth = new ResizeObserver(() => this.follows());
    this.growth.observe(this.turns);
    fill(this, this.talks.element, this.scroller, this.composer());
    this.closest("sb-notebook").addEventListener("sources-changed", (event) => this.told(event.detail), { signal: this.stop.signal });
    this.open(sessionStorage.getItem(this.memory) ?? "", true);
  }

  disconnectedCallback() {
    this.stop.abort();
    this.release();
    this.growth.disconnect();
  }

  /** Questions that the notebook brings along, as the example does. */
  offers() {
    const found = [].concat(this.notebook.metadata.questions ?? []).map(String).slice(0, 4);
    return h("div.offers", found.map((text) => button("", { onclick: () => this.running || this.ask(text) }, text)));
  }

  composer() {
    this.input = h("textarea", { rows: 1, maxlength: 16000, placeholder: t("chat.ask"), "aria-label": t("chat.question"), oninput: () => this.grow(), onkeydown: (event) => this.key(event) });
    this.sender = h("button.icon-button.primary", { "aria-label": t("chat.send"), title: t("chat.send") }, icon("send"));
    this.stopper = button("stop", { class: "primary", label: t("chat.stop"), hidden: true, onclick: () => this.halt() });
    this.using = h("p.using.small.muted");
    return h("form.composer", { onsubmit: () => this.submit() }, h("div.ask", this.input, this.sender, this.stopper), this.using);
  }

  grow() {
    this.input.style.height = "auto";
    this.input.style.height = `${Math.min(this.input.scrollHeight + 2, 200)}px`;
  }

  key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.submit();
  }

  told({ ready, ticked, total }) {
    this.using.textContent = !total ? t("chat.nosources") : !ready ? t("chat.noready") : ticked < ready ? t("chat.some", { count: ticked, total: ready }) : t("chat.all", { count: ready });
  }

  /** What is being written goes on out of sight. */
  release() {
    if (this.running) this.running.answer.chat = null;
    this.busy(null);
  }

  /** Show a conversation, or with "" an empty one. */
  async open(id, quiet = false) {
    const opening = (this.opening = {});
    const left = () => this.opening !== opening || this.stop.signal.aborted;
    this.release();
    fill(this.turns);
    this.talks.show(null);
    this.talk = id;
    this.welcome.hidden = Boolean(id);
    sessionStorage[id ? "setItem" : "removeItem"](this.memory, id);
    if (!id) return quiet || this.input.focus({ preventScroll: true });
    const run = runOf(id);
    if (run) this.takeOver(run);
    try {
      const whole = await get(`/conversations/${id}`, { html: true, places: true }, { signal: this.stop.signal });
      for (const message of whole.messages) {
        if (left()) return;
        if (message.role === "user") this.turns.append(this.question(message.text, message.id));
        else if (message.id !== run?.answer.id) await this.stored(message);
      }
      if (left()) return;
      if (run && !run.live) return this.open(id, true); // it ended meanwhile, and is stored
      if (run) this.turns.append(run.answer.element);
      this.talks.show(whole);
      this.pinned = true;
      this.follows();
    } catch (error) {
      if (left()) return;
      sessionStorage.removeItem(this.memory);
      this.talk = "";
      this.welcome.hidden = false;
      if (error.status !== 404) failed(error);
    }
  }

  async stored(message) {
    const answer = this.append();
    await answer.show(message);
    const { finish, grounded, problem } = message.details;
    answer.problem = problem ?? null;
    answer.end({ finish: finish ?? (message.state === "incomplete" ? "cancelled" : "stop"), grounded });
  }

  append() {
    const answer = new Answer(this.notebook.id, this);
    this.turns.append(answer.element);
    return answer;
  }

  question(text, id = "") {
    const edit = button("edit", { label: t("chat.edit"), onclick: () => this.edit(shown) });
    const shown = h("article.question", { "aria-label": t("chat.asked") }, h("p", text), edit);
    return Object.assign(shown, { text, id_: id });
  }

  submit() {
    const text = this.input.value.trim();
    if (!text || this.running) return;
    if (!this.ask(text)) return;
    this.input.value = "";
    this.grow();
  }

  /** Ask. `replaces` is the element of a question whose place this one takes. False where nothing can be asked. */
  ask(question, replaces) {
    const narrow = narrowed();
    const why = narrow === null ? "chat.nothing" : full() && "chat.full";
    if (why) return toast(t(why), { problem: true }), false;
    if (replaces) this.cut(replaces);
    this.welcome.hidden = true;
    this.turns.append(this.question(question));
    const body = { question, notebooks: [this.notebook.id], stream: true, ...narrow };
    if (this.talk) body.conversation_id = this.talk;
    if (replaces?.id_) body.replaces = replaces.id_;
    this.begin("/chat", body);
    return true;
  }

  /** Begin an answer, at the end of the turns. */
  begin(path, body) {
    const run = new Run(this.append(), this.talk);
    this.takeOver(run);
    this.pinned = true;
    this.follows();
    run.follow(path, { method: "POST", body });
  }

  /** Take a turn and all after it away. */
  cut(element) {
    while (element.nextSibling) element.nextSibling.remove();
    element.remove();
  }

  regenerate({ id, element }) {
    if (this.running || !id) return;
    if (full()) return toast(t("chat.full"), { problem: true });
    this.cut(element);
    this.begin(`/messages/${id}/regenerate?stream=true`);
  }

  /** After an error: the answer that is stored is made again; where there is none, the question is asked again. */
  again(answer) {
    const question = answer.element.previousElementSibling;
    if (answer.id) return this.regenerate(answer);
    if (!this.running && question) this.ask(question.text, question);
  }

  edit(shown) {
    if (this.running) return;
    const input = h("textarea", { rows: 3, maxlength: 16000, "aria-label": t("chat.question"), value: shown.text });
    const back = () => form.replaceWith(shown);
    const submit = () => {
      const text = input.value.trim();
      back();
      if (text) this.ask(text, shown);
    };
    const key = (event) => (event.key === "Escape" ? back() : event.key === "Enter" && !event.shiftKey && !event.isComposing && submit(event));
    const form = h("form.question.editing.stack.tight", { onsubmit: submit, onkeydown: key }, input,
      h("div.actions", button("", { class: "quiet", onclick: back }, t("cancel")), h("button.button.primary", t("chat.resend"))));
    shown.replaceWith(form);
    input.focus();
  }

  /** A run of this conversation is shown here from now on. */
  takeOver(run) {
    run.answer.chat = this;
    this.busy(run);
  }

  began({ talk }) {
    this.talk = talk;
    sessionStorage.setItem(this.memory, talk);
  }

  /** All of an answer has come: it gets its final form, from the conversation as it is stored. */
  async finished(answer, whole) {
    if (!answer.element.isConnected) return;
    if (!whole) return answer.settle();
    this.talks.show(whole);
    const at = whole.messages.findIndex((message) => message.id === answer.id);
    const question = answer.element.previousElementSibling;
    // Stored or not, the question is the last one where its answer is not there.
    const asked = at > 0 ? whole.messages[at - 1] : whole.messages.findLast((message) => message.role === "user");
    if (question?.matches(".question") && asked) question.id_ = asked.id;
    if (whole.messages[at]?.text) await answer.show(whole.messages[at]);
    else answer.settle();
    this.follows();
  }

  over(run) {
    if (this.running === run) this.busy(null);
  }

  busy(run) {
    this.running = run;
    this.sender.hidden = Boolean(run);
    this.stopper.hidden = !run;
    this.turns.classList.toggle("busy", Boolean(run));
  }

  halt() {
    announce(t("answer.stopped"));
    this.running?.halt();
    this.input.focus();
  }

  near() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < 60;
  }

  /** Only a reader goes up: then the end is no longer followed, until they are back there. */
  scrolled() {
    const { scrollTop } = this.scroller;
    if (this.near()) this.pinned = true;
    else if (scrollTop < this.top) this.pinned = false;
    this.top = scrollTop;
  }

  /** Stay at the end, where the reader is. */
  follows() {
    if (this.pinned) this.scroller.scrollTop = this.scroller.scrollHeight;
  }
});
