// The page of Sourcebook. One module a subject, no build step; views are custom elements without a shadow.
//
// dom.js builds elements (h), and lets HTML in at one place (trusted); api.js speaks to the API; strings.js has the words
// (t), one file a language; router.js knows where we are; base.css has the tokens, and what all views share. A view stops
// in disconnectedCallback what it began.

import { key, session, signedIn, signOut } from "./api.js";
import { button, failed, fill, fixtures, h, trouble } from "./dom.js";
import { route } from "./router.js";
import { dropAll, takeUp } from "./runs.js";
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
  return h("header.bar",
    h("a.skip", { href: "#main", onclick: (event) => (event.preventDefault(), main.focus()) }, t("skip")),
    h("a.brand", { href: "#/" }, h("img", { src: "static/icon.svg", alt: "", width: 26, height: 26 }), "Sourcebook"),
    h("div.crumb", { id: "crumb" }),
    h("nav", { "aria-label": t("nav") },
      languages,
      h("a.button.quiet", { href: "#/status" }, t("status.title")),
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
    return fill(app, h("main.centre", h("h1", t("error.start")), trouble(error, start)));
  }
  fill(app, bar(), main);
  takeUp();
  show();
}

function askForKey() {
  if (app.querySelector("sb-sign-in")) return;
  const wrong = Boolean(key());
  dropAll();
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
