// Where the reader is, kept in the address: `#/`, `#/n/<notebook>`, `#/n/<notebook>/s/<source>?start=..&end=..`,
// `#/status`. A source's query may also have `document` (which reading of it) and `page`.

/** The route of an address's hash: `{view, notebook, source, query}`. */
export function route(hash = location.hash) {
  const [path, query = ""] = hash.replace(/^#/, "").split("?");
  const [, kind, notebook, part, source] = path.split("/").map(decodeURIComponent);
  if (kind === "status") return { view: "status" };
  if (kind !== "n" || !notebook) return { view: "notebooks" };
  return { view: "notebook", notebook, source: part === "s" ? source : "", query: Object.fromEntries(new URLSearchParams(query)) };
}

/** The address of a notebook, or of a source in it with a range. */
export function address(notebook, source = "", query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const where = source ? `/s/${encodeURIComponent(source)}` : "";
  return `#/n/${encodeURIComponent(notebook)}${where}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
}

/** Go to an address. */
export const go = (to) => (location.hash = to);
