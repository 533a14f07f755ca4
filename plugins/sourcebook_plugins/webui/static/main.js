// The page of Sourcebook. One module a subject, no build step; views are custom elements without a shadow.
//
// Where things are
//   dom.js       h() builds elements, trusted() is the one way in for HTML; toast, dialog, ask, confirm, menu, announce
//   api.js       get/post/patch/remove, all/pages (lists), events (streams that resume), upload, download, Problem
//   strings.js   t("key", {count}); the words are in strings.<language>.js, a language is added to LANGUAGES
//   router.js    address(notebook, source, query) and go(); route() tells where we are
//   base.css     tokens (--ink, --accent...) and what all views share: .button, .card, .stack, .row, .muted, .pill
//
// Where views plug in
//   views/notebooks.js   <sb-notebooks>   `#/`          the list of notebooks, first run
//   views/status.js      <sb-status>      `#/status`    plugins, pipelines, health
//   views/notes.js       <sb-notes>       third pane of a notebook; gets `.notebook` (the API's object) before it is
//                                         connected, and hears these events on `window`:
//     "save-note"        detail {message_id, title?} or {text, title?, citations?}: keep an answer or a selection
//   A citation's chips are made by citations.js: `chipped(fragment, citations, notebookId)` puts them into rendered HTML.
//   To open a source at a place: go(address(notebook, source, {document, start, end})).
//   An element stops what it began (streams, timers) in disconnectedCallback; `failed(error)` tells of any error.

import { key, session, signedIn, signOut } from "./api.js";
import { button, failed, fill, fixtures, h, trouble } from "./dom.js";
import { route } from "./router.js";
import { signInView } from "./signin.js";
import { choose, language, LANGUAGES, load, t } from "./strings.js";
import "./workspace.js";
import "./views/notebooks.js";
import "./views/status.js";

const app = document.getElementById("app");
const main = h("main", { id: "main", tabindex: "-1" });

/** The bar on top, with what concerns the whole page. */
function bar() {
  const languages = h("select", { "aria-label": t("language"), onchange: (event) => choose(event.target.value) },
    Object.entries(LANGUAGES).map(([code, name]) => h("option", { value: code, selected: code === language, lang: code }, name)));
  return h("header", { class: "bar" },
    h("a", { class: "skip", href: "#main", onclick: (event) => (event.preventDefault(), main.focus()) }, t("skip")),
    h("a", { class: "brand", href: "#/" }, h("img", { src: "static/icon.svg", alt: "", width: 26, height: 26 }), "Sourcebook"),
    h("div", { class: "crumb", id: "crumb" }),
    h("nav", { "aria-label": t("nav") },
      Object.keys(LANGUAGES).length > 1 && languages,
      h("a", { class: "button quiet", href: "#/status" }, t("status.link")),
      key() && button("", { class: "quiet", onclick: leave }, t("signout"))));
}

function leave() {
  fill(main); // what is open stops
  signOut();
  history.replaceState(null, "", "#/");
  askForKey();
}

/** Show where the address leads. A notebook that is open stays open while only the source in it changes. */
function show() {
  const at = route();
  const open = main.firstElementChild;
  if (at.view === "notebook" && open?.localName === "sb-notebook" && open.id_ === at.notebook) return open.showSource(at);
  const view = document.createElement(`sb-${at.view}`);
  if (at.view === "notebook") Object.assign(view, { id_: at.notebook, at });
  document.title = "Sourcebook";
  fill(document.getElementById("crumb"));
  fill(main, view);
}

/** Begin: with a key where one is needed. */
async function start() {
  try {
    if (!(await signedIn())) return askForKey();
  } catch (error) {
    return fill(app, h("main", { class: "centre" }, h("h1", {}, t("error.start")), trouble(error, start)));
  }
  fill(app, bar(), main);
  show();
}

function askForKey() {
  if (app.querySelector("sb-sign-in")) return;
  const wrong = Boolean(key());
  signOut();
  fill(main);
  fill(app, signInView(start, wrong));
}

session.addEventListener("signed-out", askForKey);
addEventListener("hashchange", () => main.isConnected && show());
addEventListener("unhandledrejection", (event) => failed(event.reason));
await load();
fixtures();
start();
