// The public API, as everyone uses it: JSON, problems as errors, lists across cursors, uploads, streams that resume.

import { reader } from "./sse.js";
import { t } from "./strings.js";

const ROOT = "/api/v1";

/** What the API answered instead: `code` for programs; `title`, `detail` and `remedy` for people. `status` 0: nobody
 * answered at all. */
export class Problem extends Error {
  constructor(body, status, retryAfter = 0) {
    super(body.detail ?? body.title ?? String(status));
    Object.assign(this, { status, code: "", title: "", detail: "", remedy: "", ...body, retryAfter });
  }
}

/** The key that was signed in with, or "". */
export const key = () => sessionStorage.getItem("key") ?? localStorage.getItem("key") ?? "";

/** Keep a key until the tab closes, or with `always` until it is signed out. */
export function signIn(secret, always) {
  (always ? localStorage : sessionStorage).setItem("key", secret);
}

/** Forget the key, and what this tab remembers of what was read with it. */
export function signOut() {
  localStorage.removeItem("key");
  sessionStorage.clear();
}

/** Dispatches `signed-out` when the API wants a key, or another one. */
export const session = new EventTarget();

const auth = () => (key() ? { Authorization: `Bearer ${key()}` } : {});

function address(path, query) {
  const given = Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== null);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

const unreachable = () => new Problem({ code: "unreachable", detail: t("error.unreachable") }, 0);

function problemOf(body, status, retryAfter) {
  if (status === 401) session.dispatchEvent(new Event("signed-out"));
  return new Problem(body ?? { detail: t("error.plain") }, status, Number(retryAfter) || 0);
}

/** A request, answered with a Response that is ok. `path` is below `/api/v1`, or whole with a leading `//`: `//readyz`.
 * Raises `Problem`. */
export async function send(method, path, { query, body, headers = {}, ...options } = {}) {
  const whole = path.startsWith("//") ? path.slice(1) : ROOT + path;
  const type = body === undefined ? {} : { "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(address(whole, query), {
      method, headers: { Accept: "application/json", ...auth(), ...type, ...headers },
      body: JSON.stringify(body), ...options,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable();
  }
  if (response.ok) return response;
  throw problemOf(await response.json().catch(() => null), response.status, response.headers.get("Retry-After"));
}

const json = async (...request) => {
  const response = await send(...request);
  return response.status === 204 ? null : response.json();
};
export const get = (path, query, options) => json("GET", path, { query, ...options });
export const post = (path, body, options) => json("POST", path, { body, ...options });
export const patch = (path, body, options) => json("PATCH", path, { body, ...options });
export const remove = (path) => json("DELETE", path);

/** The pages of a list, one array of items after the other, across cursors. */
export async function* pages(path, query, options) {
  for (let cursor; ; ) {
    const page = await get(path, { limit: 200, ...query, cursor }, options);
    yield page.items;
    if (!(cursor = page.next_cursor)) return;
  }
}

/** All items of a list. */
export async function all(path, query) {
  const items = [];
  for await (const page of pages(path, query)) items.push(...page);
  return items;
}

/** Whether the server knows who asks: by the key, or since it needs none. */
export const signedIn = async () => (await get("//")).authenticated;

/** Bytes as a `blob:` address, for images behind a key. Whoever asks revokes it. */
export async function blobUrl(path, query, options) {
  return URL.createObjectURL(await (await send("GET", path, { query, headers: { Accept: "*/*" }, ...options })).blob());
}

/** Save something as a file. */
export async function download(path, name, query) {
  const url = await blobUrl(path, query);
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Upload one file to a notebook; `onProgress(share)` is told how much is sent. Resolves with the API's `{source,
 * created}`; a file of the same bytes is the source that is there. Raises `Problem`. */
export function upload(notebook, file, { onProgress, signal }) {
  const form = new FormData();
  form.append("file", file, file.name);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not tell how far an upload is
    request.open("POST", `${ROOT}/notebooks/${notebook}/sources`);
    for (const [name, value] of Object.entries({ Accept: "application/json", ...auth() })) request.setRequestHeader(name, value);
    request.responseType = "json";
    request.upload.onprogress = (event) => onProgress(event.loaded / (event.total || 1));
    request.onload = () => {
      const item = request.response?.items?.[0];
      if (request.status < 300 && item?.source) resolve(item);
      else reject(problemOf(item?.problem ?? request.response, request.status, request.getResponseHeader("Retry-After")));
    };
    request.onerror = () => reject(unreachable());
    request.onabort = () => reject(new DOMException("", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

/** A UUID, also where the page is not on https and has no `crypto.randomUUID`. */
export const uuid = () => "10000000-1000-4000-8000-100000000000".replace(/[018]/g, (digit) =>
  (digit ^ (crypto.getRandomValues(new Uint8Array(1))[0] & (15 >> (digit / 4)))).toString(16));

const rest = (ms, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, ms);
  signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
});
/** Let the browser do what waits. */
export const breathe = () => new Promise((resolve) => {
  const { port1, port2 } = new MessageChannel(); // a task's end, without setTimeout's 4 ms
  port1.onmessage = () => (port1.close(), resolve());
  port2.postMessage(0);
});

/** A stream's events `{id, event, data}`, `data` parsed. A connection that drops, or ends before an event for which
 * `ends(event)` holds, is made again, after the last event (Last-Event-ID), with a back-off; `onState("waiting" |
 * "open")` hears of it. A POST goes on at its Content-Location, and is sent again under one Idempotency-Key. Raises
 * `Problem` for what the API refuses. */
export async function* events(path, { method = "GET", body, signal, last = "", ends = () => false, onState } = {}) {
  const again = method === "POST" ? { "Idempotency-Key": uuid() } : {};
  for (let failures = 0; !signal?.aborted; ) {
    try {
      const headers = { Accept: "text/event-stream", ...again, ...(last ? { "Last-Event-ID": last } : {}) };
      const response = await send(method, path, { body, headers, signal });
      onState?.("open");
      const location = response.headers.get("Content-Location");
      if (location) [method, path, body] = ["GET", `/${location}`, undefined];
      for await (const event of framesOf(response.body)) {
        failures = 0;
        last = event.id ?? last;
        yield { ...event, data: JSON.parse(event.data) };
        if (ends(event)) return;
      }
    } catch (error) {
      if (signal?.aborted || error.name === "AbortError") return;
      if (error instanceof Problem && error.status && ![429, 502, 503, 504].includes(error.status)) throw error;
      failures += 1;
      if (method === "POST" && failures > 3) throw error; // nothing has begun that could be followed
    }
    onState?.("waiting");
    await rest(Math.min(5000, 250 * 2 ** failures) * (0.7 + Math.random() * 0.6), signal);
  }
}

async function* framesOf(body) {
  const feed = reader();
  const bytes = body.getReader();
  const decoder = new TextDecoder();
  let began = performance.now();
  try {
    for (;;) {
      const { done, value } = await bytes.read();
      if (done) return;
      for (const event of feed(decoder.decode(value, { stream: true }))) {
        yield event;
        if (performance.now() - began > 8) {
          await breathe(); // many events at once must not hold the page
          began = performance.now();
        }
      }
    }
  } finally {
    bytes.cancel().catch(() => {});
  }
}
