// Answers that are being made. Each is followed to its end wherever in the page its reader goes meanwhile, since the
// server stops one that nobody follows; after a reload they are taken up again.

import { Answer } from "./answer.js";
import { events, get, post } from "./api.js";
import { failed } from "./dom.js";

const MOST = 4; // at once: browsers open six connections to a server, and the page needs some for itself
const live = new Set();

/** Whether no more can be asked now. */
export const full = () => live.size >= MOST;

/** The run that is being made in a conversation, if there is one. */
export const runOf = (talk) => [...live].find((run) => talk && run.talk === talk);

/** One run. Its answer's `chat` is the pane that shows it, null while it is out of sight. */
export class Run {
  constructor(answer, talk = "", id = "") {
    Object.assign(this, { answer, talk, id, abort: new AbortController() });
  }

  get live() {
    return live.has(this);
  }

  /** From where it is begun, or its events are, to its end, whatever connection it takes. */
  async follow(path, how = {}) {
    const { answer } = this;
    live.add(this);
    try {
      const onState = (state) => answer.element.classList.toggle("waiting", state === "waiting");
      for await (const { event, data } of events(path, { ...how, signal: this.abort.signal, ends: (one) => one.event === "done", onState })) {
        if (event === "run.started") this.began(data);
        answer.take(data);
      }
      if (answer.chat && this.live) await answer.chat.finished(answer, await this.stored());
    } catch (error) {
      if (how.method || error.status !== 404) answer.refused(error);
      if (!answer.chat) failed(error);
      else if (!how.method && error.status === 404) (live.delete(this), answer.chat.open(this.talk, true)); // not known any more
    }
    live.delete(this);
    keep();
    answer.chat?.over(this);
  }

  began({ run_id: id, conversation_id: talk }) {
    Object.assign(this, { id, talk });
    keep();
    if (this.halted) this.halt();
    this.answer.chat?.began(this);
  }

  /** Stop it; what is written stays. One that has no name yet is stopped as soon as it has. */
  halt() {
    if (this.id) post(`/runs/${this.id}/cancel`).catch(failed);
    this.halted = !this.id;
  }

  /** The conversation as the server keeps it; null where it cannot be had. */
  stored() {
    return get(`/conversations/${this.talk}`, { html: true, places: true }).catch(() => null);
  }
}

function keep() {
  const known = [...live].filter((run) => run.id).map(({ id, talk, answer }) => [id, talk, answer.notebook, answer.id]);
  sessionStorage[known.length ? "setItem" : "removeItem"]("runs", JSON.stringify(known));
}

/** Take up what was being made when the page went away. */
export function takeUp() {
  for (const [id, talk, notebook, message] of JSON.parse(sessionStorage.getItem("runs") ?? "[]")) {
    const answer = Object.assign(new Answer(notebook), { id: message });
    new Run(answer, talk, id).follow(`/runs/${id}/events`);
  }
}

/** Follow none any more: whoever asked has signed out. */
export function dropAll() {
  for (const run of live) run.abort.abort();
  live.clear();
}
