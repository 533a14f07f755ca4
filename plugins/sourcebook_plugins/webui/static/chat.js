// The chat pane: a conversation, its questions and answers, and the run that is being written.

import { events, get, post } from "./api.js";
import { Answer } from "./answer.js";
import { Conversations } from "./conversations.js";
import { announce, button, failed, fill, h, icon, toast } from "./dom.js";
import { narrowed } from "./sources.js";
import { t } from "./strings.js";

const ENDS = (event) => event.event === "done";

customElements.define("sb-chat", class extends HTMLElement {
  connectedCallback() {
    this.stop = new AbortController();
    this.talks = new Conversations(this.notebook, (id) => this.open(id));
    this.turns = h("div", { class: "turns" });
    this.end = h("div");
    this.welcome = h("div", { class: "empty" }, h("h3", {}, t("chat.welcome")), h("p", { class: "muted" }, t("chat.hint")));
    this.scroller = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t("chat.turns") }, this.welcome, this.turns, this.end);
    this.scroller.addEventListener("scroll", () => (this.pinned = this.near()), { passive: true });
    this.pinned = true;
    fill(this, this.talks.element, this.scroller, this.composer());
    this.closest("sb-notebook").addEventListener("sources-changed", (event) => this.told(event.detail), { signal: this.stop.signal });
    this.resume();
  }

  disconnectedCallback() {
    this.stop.abort();
    this.running?.abort.abort();
  }

  composer() {
    this.input = h("textarea", { rows: 1, maxlength: 16000, placeholder: t("chat.ask"), "aria-label": t("chat.question"), oninput: () => this.grow(), onkeydown: (event) => this.key(event) });
    this.sender = h("button", { class: "icon-button primary", "aria-label": t("chat.send"), title: t("chat.send") }, icon("send"));
    this.stopper = button("stop", { class: "primary", label: t("chat.stop"), hidden: true, onclick: () => this.halt() });
    this.using = h("p", { class: "using small muted" });
    const submit = (event) => (event.preventDefault(), this.submit());
    return h("form", { class: "composer", onsubmit: submit }, h("div", { class: "ask" }, this.input, this.sender, this.stopper), this.using);
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

  memory(what) {
    return `${what}:${this.notebook.id}`;
  }

  /** Where this tab was: the conversation, and the run that was being written when it went away. */
  async resume() {
    const run = JSON.parse(sessionStorage.getItem(this.memory("run")) ?? "null");
    await this.open(run?.conversation ?? sessionStorage.getItem(this.memory("talk")) ?? "");
    if (!run || this.stop.signal.aborted) return;
    const shown = this.querySelectorAll("article").length && [...this.turns.children].find((one) => one.answer?.id === run.message);
    if (shown) return sessionStorage.removeItem(this.memory("run")); // it ended meanwhile, and is here
    const answer = this.append();
    await this.follow(answer, `/runs/${run.run}/events`);
  }

  /** Show a conversation, or with "" an empty one. */
  async open(id) {
    this.running?.abort.abort();
    this.busy(null);
    fill(this.turns);
    this.talks.show(null);
    this.talk = id;
    this.welcome.hidden = Boolean(id);
    sessionStorage[id ? "setItem" : "removeItem"](this.memory("talk"), id);
    if (!id) return this.input.focus({ preventScroll: true });
    try {
      const whole = await get(`/conversations/${id}`, { html: true, places: true }, { signal: this.stop.signal });
      if (this.talk !== id) return;
      this.talks.show(whole);
      for (const message of whole.messages) {
        if (message.role === "user") this.turns.append(this.question(message.text, message.id));
        else await this.stored(message);
      }
      this.pinned = true;
      this.follows();
    } catch (error) {
      sessionStorage.removeItem(this.memory("talk"));
      this.talk = "";
      this.welcome.hidden = false;
      if (error.status !== 404) failed(error);
    }
  }

  async stored(message) {
    const answer = this.append();
    if (message.html === null) answer.writer.add(message.text);
    await answer.show(message);
    const { finish, grounded, problem } = message.details;
    answer.problem = problem ?? null;
    answer.end({ finish: finish ?? (message.state === "incomplete" ? "cancelled" : "stop"), grounded });
  }

  append() {
    const actions = { regenerate: (answer) => this.regenerate(answer), again: (answer) => this.again(answer) };
    const answer = new Answer(this.notebook.id, actions, () => this.follows());
    answer.element.answer = answer;
    this.turns.append(answer.element);
    return answer;
  }

  question(text, id = "") {
    const edit = button("edit", { label: t("chat.edit"), onclick: () => this.edit(shown) });
    const shown = h("article", { class: "question", "aria-label": t("chat.asked") }, h("p", {}, text), edit);
    return Object.assign(shown, { text, id_: id });
  }

  submit() {
    const text = this.input.value.trim();
    if (!text || this.running) return;
    if (!this.ask(text)) return;
    this.input.value = "";
    this.grow();
  }

  /** Ask. `replaces` is the element of a question whose place this one takes. False where no source may be used. */
  ask(text, replaces) {
    const narrow = narrowed();
    if (narrow === null) return toast(t("chat.nothing"), { problem: true }), false;
    if (replaces) this.cut(replaces);
    this.welcome.hidden = true;
    const question = this.question(text);
    this.turns.append(question);
    const answer = this.append();
    this.pinned = true;
    this.follows();
    const body = { question: text, notebooks: [this.notebook.id], stream: true, ...narrow };
    if (this.talk) body.conversation_id = this.talk;
    if (replaces?.id_) body.replaces = replaces.id_;
    this.follow(answer, "/chat", { method: "POST", body });
    return true;
  }

  /** Take a turn and all after it away. */
  cut(element) {
    while (element.nextSibling) element.nextSibling.remove();
    element.remove();
  }

  regenerate(answer) {
    if (this.running || !answer.id) return;
    const { id } = answer;
    this.cut(answer.element);
    this.follow(this.append(), `/messages/${id}/regenerate?stream=true`, { method: "POST" });
  }

  /** After an error: the answer that is stored is made again; where there is none, the question is asked again. */
  again(answer) {
    const question = answer.element.previousElementSibling;
    if (answer.id && !answer.unsaid) return this.regenerate(answer);
    if (!this.running && question) this.ask(question.text, question);
  }

  edit(shown) {
    if (this.running) return;
    const input = h("textarea", { rows: 3, maxlength: 16000, "aria-label": t("chat.question"), value: shown.text });
    const back = () => form.replaceWith(shown);
    const submit = (event) => {
      event?.preventDefault();
      const text = input.value.trim();
      back();
      if (text) this.ask(text, shown);
    };
    const key = (event) => (event.key === "Escape" ? back() : event.key === "Enter" && !event.shiftKey && !event.isComposing && submit(event));
    const form = h("form", { class: "question editing stack tight", onsubmit: submit, onkeydown: key }, input,
      h("div", { class: "actions" }, button("", { class: "quiet", onclick: back }, t("cancel")), h("button", { class: "button primary" }, t("chat.resend"))));
    shown.replaceWith(form);
    input.focus();
  }

  /** Follow a run from its beginning, whatever connection it takes, and put its answer in its final form. */
  async follow(answer, path, how = {}) {
    const abort = new AbortController();
    this.busy({ abort, answer, run: /runs\/([^/]+)/.exec(path)?.[1] });
    const running = this.running;
    try {
      const onState = (state) => answer.element.classList.toggle("waiting", state === "waiting");
      for await (const { event, data } of events(path, { ...how, signal: abort.signal, ends: ENDS, onState })) {
        if (event === "run.started") this.began(running, data);
        answer.take(data);
        if (event === "done") await this.finished(answer);
      }
    } catch (error) {
      answer.unsaid = !answer.id;
      if (how.method || error.status !== 404) answer.refused(error);
      else answer.element.remove(); // the run is not known any more
      this.forget();
    } finally {
      if (this.running === running) this.busy(null);
    }
  }

  began(running, { run_id: run, conversation_id: talk, message_id: message }) {
    running.run = run;
    if (running.halted) post(`/runs/${run}/cancel`).catch(failed);
    this.talk = talk;
    sessionStorage.setItem(this.memory("talk"), talk);
    sessionStorage.setItem(this.memory("run"), JSON.stringify({ run, conversation: talk, message }));
  }

  forget() {
    sessionStorage.removeItem(this.memory("run"));
  }

  async finished(answer) {
    this.forget();
    const whole = await get(`/conversations/${this.talk}`, { html: true, places: true }, { signal: this.stop.signal }).catch(() => null);
    if (!whole || !answer.element.isConnected) return answer.writer.flush();
    this.talks.show(whole);
    const at = whole.messages.findIndex((message) => message.id === answer.id);
    const question = answer.element.previousElementSibling;
    // Stored or not, the question is the last one where its answer is not there.
    const asked = at > 0 ? whole.messages[at - 1] : whole.messages.findLast((message) => message.role === "user");
    if (question?.matches(".question") && asked) question.id_ = asked.id;
    if (at >= 0 && whole.messages[at].text) await answer.show(whole.messages[at]);
    else answer.writer.flush();
    this.follows();
  }

  busy(running) {
    this.running = running;
    this.sender.hidden = Boolean(running);
    this.stopper.hidden = !running;
    this.turns.classList.toggle("busy", Boolean(running));
  }

  halt() {
    const { running } = this;
    if (!running) return;
    announce(t("answer.stopped"));
    if (running.run) post(`/runs/${running.run}/cancel`).catch(failed);
    else running.halted = true; // it has no name yet: as soon as it has one
    this.input.focus();
  }

  near() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < 60;
  }

  /** Stay at the end, where the reader is. */
  follows() {
    if (this.pinned) this.scroller.scrollTop = this.scroller.scrollHeight;
  }
});
