// Server-sent events read from bytes as they come. No DOM here: this runs anywhere.

/** A reader of an event stream's text: `feed(text)` gives the events that it completed, as `{id, event, data}`. */
export function reader() {
  let rest = "";
  let fields = {};
  return function feed(text) {
    // A CR at the end may be half of a CRLF, so it waits for what comes next.
    const lines = (rest + text).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    const found = [];
    for (const line of lines) {
      if (line) take(fields, line);
      else if (fields.data !== undefined) found.push(fields);
      if (!line) fields = {};
    }
    return found;
  };
}

function take(fields, line) {
  const colon = line.indexOf(":");
  if (colon === 0) return; // a comment: the heartbeat
  const name = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
  if (name === "data") fields.data = fields.data === undefined ? value : `${fields.data}\n${value}`;
  else if (name === "id" || name === "event") fields[name] = value;
}
