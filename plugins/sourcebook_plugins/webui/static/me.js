// Who is signed in, asked once for each key.

import { get, key } from "./api.js";

let known = {};

/** Whether the reader may do this (`read`, `write`, `admin`). The server decides all the same: this hides what it would refuse. */
export async function may(permission) {
  if (known.key !== key() || !known.me) known = { key: key(), me: get("/me") };
  const { me } = known;
  return (await me.catch((error) => ((known = {}), Promise.reject(error)))).permissions.includes(permission);
}
