// Signing in with a key of the API. It is sent to this server alone, and kept where the reader says.

import { get, key, signIn, signOut } from "./api.js";
import { fill, h } from "./dom.js";
import { t } from "./strings.js";

customElements.define("sb-sign-in", class extends HTMLElement {});

/** The form. `wrong`: there was a key, and the server no longer takes it. `then` is called when one was taken. */
export function signInView(then, wrong) {
  const secret = h("input", { id: "key", type: "password", required: true, autofocus: true, autocomplete: "current-password", spellcheck: "false", "aria-describedby": "key-help key-problem" });
  const always = h("input", { type: "checkbox" });
  const told = h("p", { id: "key-problem", class: "problem", role: "alert" }, wrong && t("signin.again"));
  const submit = async (event) => {
    event.preventDefault();
    signIn(secret.value.trim(), always.checked);
    try {
      await get("/notebooks", { limit: 1 });
      then();
    } catch (error) {
      const refused = error.status === 401;
      if (key()) signOut();
      fill(told, refused ? t("signin.wrong") : error.detail);
      secret.select();
    }
  };
  return h("sb-sign-in", {}, h("main", { class: "centre" },
    h("form", { class: "card stack", onsubmit: submit },
      h("img", { src: "static/icon.svg", alt: "", width: 44, height: 44 }),
      h("h1", {}, t("signin.title")),
      h("p", { id: "key-help", class: "muted" }, t("signin.help")),
      h("label", {}, h("span", {}, t("signin.key")), secret),
      h("label", { class: "row" }, always, h("span", {}, t("signin.keep"))),
      told,
      h("button", { class: "button primary" }, t("signin.go")))));
}
