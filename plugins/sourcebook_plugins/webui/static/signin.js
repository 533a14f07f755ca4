// Signing in with a key of the API. It is sent to this server alone, and kept where the reader says.

import { signedIn, signIn, signOut } from "./api.js";
import { fill, h } from "./dom.js";
import { t, words } from "./strings.js";

customElements.define("sb-sign-in", class extends HTMLElement {});

/** The form. `wrong`: there was a key, and the server no longer takes it. `then` is called when one was taken. */
export function signInView(then, wrong) {
  const secret = h("input", { id: "key", type: "password", required: true, autofocus: true, autocomplete: "current-password", spellcheck: "false", "aria-describedby": "key-help key-problem" });
  const always = h("input", { type: "checkbox" });
  const told = h("p.problem", { id: "key-problem", role: "alert" }, wrong && t("signin.again"));
  const submit = async () => {
    signIn(secret.value.trim(), always.checked);
    try {
      if (await signedIn()) return then();
      signOut();
      fill(told, t("signin.wrong"));
    } catch (error) {
      signOut();
      fill(told, words(error));
    }
    secret.select();
  };
  return h("sb-sign-in", h("main.centre",
    h("form.card.stack", { onsubmit: submit },
      h("img", { src: "static/icon.svg", alt: "", width: 44, height: 44 }),
      h("h1", t("signin.title")),
      h("p.muted", { id: "key-help" }, t("signin.help")),
      h("input", { hidden: true, autocomplete: "username", value: "sourcebook" }), // what browsers keep a password under
      h("label", h("span", t("signin.key")), secret),
      h("label.row", always, h("span", t("signin.keep"))),
      told,
      h("button.button.primary", t("signin.go")))));
}
