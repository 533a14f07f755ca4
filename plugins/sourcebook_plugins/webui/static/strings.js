// What the page says, in the reader's language: one file a language, chosen by the browser's list or by hand.

import english from "./strings.en.js";

/** Language -> its own name. Each has a file `strings.<language>.js` with the keys of the English one. */
export const LANGUAGES = { en: "English", de: "Deutsch" };

let strings = english;
export let language = "en";

/** Load the language that was chosen before, or the first of the browser's that there is. */
export async function load() {
  const wanted = [localStorage.getItem("language"), ...navigator.languages].map((name) => name?.slice(0, 2));
  language = wanted.find((name) => name in LANGUAGES) ?? "en";
  if (language !== "en") strings = (await import(`./strings.${language}.js`)).default;
  document.documentElement.lang = language;
}

/** Change the language. The page begins anew with it: what runs is taken up again. */
export function choose(name) {
  localStorage.setItem("language", name);
  location.reload();
}

/** The words for a key, `{name}` in them replaced by `values.name`. An entry that is an object has a form for each
 * plural category of its language (`one`, `other`...), chosen by `values.count`. */
export function t(key, values = {}) {
  const [group, ...name] = key.split(".");
  let entry = typeof strings[group] === "string" ? strings[group] : (strings[group]?.[name.join(".")] ?? key);
  if (typeof entry === "object")
    entry = entry[new Intl.PluralRules(language).select(values.count)] ?? entry.other;
  return entry.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    return typeof value === "number" ? number(value) : (value ?? whole);
  });
}

export const number = (value) => new Intl.NumberFormat(language).format(value);

/** Bytes for people. */
export function size(bytes) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
  const at = Math.min(3, Math.floor(Math.log10(Math.max(bytes, 1)) / 3));
  const options = { style: "unit", unit: units[at], unitDisplay: at ? "short" : "long", maximumFractionDigits: at ? 1 : 0 };
  return new Intl.NumberFormat(language, options).format(bytes / 1000 ** at);
}

/** How long ago, or when, for people. */
export function ago(iso) {
  const seconds = (Date.parse(iso) - Date.now()) / 1000;
  const units = [["minute", 60], ["hour", 3600], ["day", 86400]];
  const fits = units.findLast(([, length]) => Math.abs(seconds) >= length);
  if (!fits) return t("time.now");
  const [unit, length] = fits;
  const count = Math.round(seconds / length);
  if (unit === "day" && count < -14) return new Date(iso).toLocaleDateString(language, { dateStyle: "medium" });
  return new Intl.RelativeTimeFormat(language, { numeric: "auto" }).format(count, unit);
}

/** Seconds that are left, roughly. */
export function left(seconds) {
  const [count, unit] = seconds < 60 ? [Math.max(1, seconds), "second"] : [seconds / 60, "minute"];
  return new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "long", maximumFractionDigits: 0 }).format(count);
}

/** A problem's own words: what happened, and what to do about it. */
export function words({ detail, title, message, remedy }) {
  const what = (detail || title || message || t("error.plain")).trim();
  return remedy ? `${/[.!?。]$/.test(what) ? what : `${what}.`} ${remedy}` : what;
}
