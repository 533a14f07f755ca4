// Building the page: elements from data, text only as text. `trusted` is the one way for HTML to come in.

import { t, words } from "./strings.js";

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  add: "M12 5v14M5 12h14",
  back: "M15 5l-7 7 7 7",
  chat: "M4 5h16v11H9l-5 4z",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h10v11H9zM5 15V4h10",
  down: "M6 9.5l6 6 6-6",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  edit: "M4 20l1-4L16 5l3 3L8 19z",
  file: "M6 3h8l4 4v14H6zM14 3v4h4",
  more: "M12 5a1 1 0 1 0 .01 0M12 11.500a1 1 0 1 0 .01 0M12 18a1 1 0 1 0 .01 0",
  next: "M9 5l7 7-7 7",
  note: "M5 4h14v10l-5 6H5zM14 20v-6h5M8 8h8M8 12h4",
  retry: "M19 12a7 7 0 1 1-2-5l2 2M19 4v5h-5",
  search: "M11 5a6 6 0 1 1 0 12 6 6 0 0 1 0-12zM15.5 15.500L20 20",
  send: "M5 12h13M12 5l7 7-7 7",
  sources: "M4 6h16M4 12h16M4 18h10",
  stop: "M7 7h10v10H7z",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  upload: "M12 20V8M7 12l5-5 5 5M5 4h14",
  warn: "M12 4l9 16H3zM12 10v4M12 17v.01",
};

/** An element: `h("p.small.muted", props, ...children)`. `props` may be left out: `on<event>` functions, `data-*`, `aria-*`,
 * properties that are no attributes (`value`, `checked`), any attribute; null, undefined and false leave one out.
 * Children: nodes, strings, lists of them. */
export function h(kind, ...children) {
  const [tag, ...classes] = kind.split(".");
  const made = document.createElement(tag);
  if (classes.length) made.className = classes.join(" ");
  const props = children[0]?.constructor === Object ? children.shift() : {};
  for (const [name, value] of Object.entries(props)) set(made, name, value);
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

function set(element, name, value) {
  if (name === "onsubmit") element.onsubmit = (event) => (event.preventDefault(), value(event)); // nothing is ever sent by a form
  else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "value" || name === "checked" || name === "indeterminate") element[name] = value;
  else if (value === true) element.setAttribute(name, "");
  else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
}

/** One of our icons; decoration, so the button around it needs a name of its own. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }))
    svg.setAttribute(key, value);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  if (name === "stop" || name === "more") path.setAttribute("fill", "currentColor");
  svg.append(path);
  return svg;
}

/** A button with an icon; with `props.label` that is its whole look, and its accessible name and tooltip. */
export function button(name, props, ...children) {
  const { label, class: kind = "", ...rest } = props;
  const named = label ? { "aria-label": label, title: label } : {};
  return h("button", { type: "button", class: `${label ? "icon-button" : "button"} ${kind}`, ...named, ...rest },
    name && icon(name), ...children);
}

const policy = window.trustedTypes?.createPolicy("sourcebook", { createHTML: (html) => html });

/** What the server rendered of Markdown (`html` fields of the API, nothing else), as nodes. The only place in the page
 * where a string becomes HTML: the API's renderer lets neither raw HTML nor images through. */
export function trusted(html) {
  const template = document.createElement("template");
  template.innerHTML = policy ? policy.createHTML(html) : html;
  for (const link of template.content.querySelectorAll("a")) link.target = "_blank";
  return template.content;
}

/** Put `children` in the place of all that an element holds. */
export const fill = (element, ...children) => element.replaceChildren(...children.flat(Infinity).filter(Boolean));

let polite, alert, toasts;

/** The page's own fixtures: live regions and the place for toasts. Called once. */
export function fixtures() {
  polite = h("div.unseen", { role: "status", "aria-live": "polite" });
  alert = h("div.unseen", { role: "alert" });
  toasts = h("div.toasts");
  document.body.append(polite, alert, toasts);
}

/** Say something to screen readers. */
export function announce(text, urgent = false) {
  const region = urgent ? alert : polite;
  region.textContent = "";
  setTimeout(() => (region.textContent = text), 50); // so that the same words are said again
}

/** A message at the edge that goes away by itself after `ms`, with at most one action `{label, run}`. Returns a function
 * that takes it away. While the pointer or the focus is on it, it stays. `gone` is called when it went unanswered. */
export function toast(text, { action, ms = 6000, problem = false, gone } = {}) {
  let timer;
  const end = (answered) => {
    clearTimeout(timer);
    if (shown.isConnected) {
      shown.remove();
      if (!answered) gone?.();
    }
  };
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => end(false), ms);
  };
  const act = action && button("", { class: "quiet", onclick: () => (end(true), action.run()) }, action.label);
  const shown = h("div", { class: problem ? "toast bad" : "toast", role: problem ? "alert" : "status" },
    h("span", text), act, button("close", { label: t("close"), onclick: () => end(false) }));
  for (const name of ["pointerenter", "focusin"]) shown.addEventListener(name, () => clearTimeout(timer));
  for (const name of ["pointerleave", "focusout"]) shown.addEventListener(name, wait);
  toasts.append(shown);
  wait();
  return () => end(true);
}

/** Tell of an error: a `Problem` in its own words with its remedy, anything else as it is. */
export function failed(error) {
  if (error?.name === "AbortError" || error?.status === 401) return; // the sign-in is on the screen then
  toast(words(error), { problem: true, ms: 12000 });
}

/** A problem in its own words, with its remedy, and where `again` is given a way to try again. */
export const trouble = (problem, again) => [
  h("strong.problem.row", icon("warn"), problem.title || t("error.plain")),
  h("p.small", words(problem)),
  again && button("retry", { class: "small", onclick: again }, t("retry")),
];

/** A modal dialog. `body(close)` gives its nodes; `close(value)` ends it. Resolves with the value, null when dismissed. */
export function dialog(title, body, kind = "") {
  return new Promise((resolve) => {
    const heading = h("h2", { id: "dialog-title" }, title);
    const shown = h("dialog", { "aria-labelledby": "dialog-title", class: kind });
    const close = (value = null) => {
      shown.close();
      shown.remove();
      resolve(value);
    };
    shown.addEventListener("cancel", (event) => (event.preventDefault(), close()));
    shown.addEventListener("pointerdown", (event) => event.target === shown && close());
    shown.append(h("div.dialog",
      h("header", heading, button("close", { label: t("close"), onclick: () => close() })), body(close)));
    document.body.append(shown);
    shown.showModal();
  });
}

/** Ask for one line of text in a dialog. Resolves with it, or null. */
export function ask(title, { value = "", label = title, action, type = "text", hint = "" }) {
  return dialog(title, (close) => {
    const input = h("input", { type, value, required: true, autofocus: true, maxlength: 500, autocomplete: "off" });
    return h("form.stack", { onsubmit: () => close(input.value) },
      h("label", h("span", label), input), hint && h("p.muted", hint),
      h("div.actions", h("button.button.primary", action)));
  });
}

/** Ask whether to go on. Resolves with true or null. */
export function confirm(title, text, action) {
  return dialog(title, (close) => h("div.stack", h("p", text), h("div.actions",
    button("", { class: "danger", autofocus: true, onclick: () => close(true) }, action))));
}

/** A menu below a button: `items()` gives `{label, note, icon, run, danger, current}` when it opens, falsy ones are left
 * out; a string is but said. Raises nothing: what fails is told. */
export function menu(label, items, opener = button("more", { label })) {
  const expanded = (open) => opener.setAttribute("aria-expanded", String(open));
  opener.setAttribute("aria-haspopup", "menu");
  expanded(false);
  opener.addEventListener("click", async () => {
    const list = h("div.menu", { role: "menu", popover: "auto", "aria-label": label });
    const entry = ({ label, note, icon: sign, run, danger, current }) => h("button", { type: "button", role: "menuitem", class: danger && "danger",
      "aria-current": current && "true", onclick: () => (list.hidePopover(), run()) }, sign && icon(sign), h("span.grow.cut", label), note);
    try {
      for (const item of (await items()).filter(Boolean)) list.append(item.label ? entry(item) : h("p.small.muted", item));
    } catch (error) {
      return failed(error);
    }
    list.addEventListener("keydown", (event) => step(event, [...list.querySelectorAll("button")]));
    list.addEventListener("toggle", (event) => {
      expanded(event.newState === "open");
      if (event.newState === "closed") list.remove();
    });
    opener.after(list);
    list.showPopover();
    place(list, opener.getBoundingClientRect());
    list.querySelector("button")?.focus();
  });
  return opener;
}

function step(event, items) {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!by) return;
  event.preventDefault();
  items[(items.indexOf(document.activeElement) + by + items.length) % items.length].focus();
}

/** Put a popover beside a rectangle, inside of the window. */
export function place(shown, at) {
  const { width, height } = shown.getBoundingClientRect();
  const below = at.bottom + height + 8 < window.innerHeight;
  shown.style.left = `${Math.max(8, Math.min(at.left, window.innerWidth - width - 8))}px`;
  shown.style.top = `${Math.max(8, below ? at.bottom + 4 : at.top - height - 4)}px`;
}
