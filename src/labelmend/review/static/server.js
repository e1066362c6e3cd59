/** Everything the page asks of its server, with the token on every question. */

const TOKEN = "labelmend/token";
/** Characters of what is still sent when the page is closed at that moment; browsers set a limit. */
const SMALL = 8192;

/** The server answered, and the answer was no: its status, its sentence, its whole answer. */
export class Refusal extends Error {
  constructor(status, answer) {
    super(answer?.detail ?? `the server answered with status ${status}`);
    this.status = status;
    this.answer = answer;
  }
}

/** The server did not answer, or broke while answering; asking again may help. */
export class Silence extends Error {
  constructor(words, answered = false) {
    super(words);
    this.answered = answered;
  }
}

/** The server counts the cases in another order than the page: nothing was done. */
class Reordered extends Silence {}

/** The token: out of the address, which forgets it at once, or as this tab remembers it. */
export function readToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(TOKEN, given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return sessionStorage.getItem(TOKEN);
}

/** A name that no other stroke has; also where the page is not served securely. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** The version in an ETag or an If-Match header. */
export function readVersion(tag) {
  const found = /"(\d+)"/.exec(tag ?? "");
  return found ? Number(found[1]) : null;
}

async function readRefusal(response) {
  const text = await response.text().catch(() => "");
  let answer = null;
  try {
    answer = JSON.parse(text);
  } catch {
    answer = null;
  }
  if (response.status >= 500 || [408, 429].includes(response.status)) {
    throw new Silence(answer?.detail ?? `the server broke (status ${response.status})`, true);
  }
  if (response.headers.has("X-Order")) throw new Reordered(answer?.detail ?? "the labels are in another order now", true);
  const detail = typeof answer?.detail === "string" ? answer : { ...answer, detail: undefined };
  throw new Refusal(response.status, detail);
}

/** Asks the server. Every method rejects with a Refusal or a Silence and nothing else. */
export class Server {
  constructor(token) {
    this.token = token;
    this.person = "";
    /** The order in which the page counts cases, and what to do where the server's is another. */
    this.order = null;
    this.onReordered = () => {};
  }

  async ask(path, { method = "GET", headers = {}, body, keepalive = false, wait = 60000 } = {}) {
    const about = { Authorization: `Bearer ${this.token}`, ...headers };
    if (this.order) about["X-Order"] = this.order;
    const signal = AbortSignal.timeout(wait);
    let response;
    try {
      response = await fetch(path, { method, headers: about, body, keepalive, signal, cache: "no-store" });
    } catch (error) {
      throw new Silence(error.name === "TimeoutError" ? "no answer in time" : "no answer");
    }
    if (response.ok) return response;
    return readRefusal(response).catch((error) => {
      if (error instanceof Reordered) this.onReordered();
      throw error;
    });
  }

  /** What `read` makes of the answer; an answer that breaks off is no answer. */
  async read(path, read, options) {
    const response = await this.ask(path, options);
    try {
      return await read(response);
    } catch {
      throw new Silence("the answer broke off");
    }
  }

  json(path, options) {
    return this.read(path, (response) => response.json(), options);
  }

  /** A picture as a blob. */
  picture(path) {
    return this.read(path, (response) => response.blob());
  }

  /** A label: `{shape, values, version}`, one byte per position, 255 unknown. */
  label(path) {
    return this.read(path, async (response) => ({
      values: new Uint8Array(await response.arrayBuffer()),
      shape: response.headers.get("X-Shape").split(",").map(Number),
      version: readVersion(response.headers.get("ETag")),
    }));
  }

  /** Sends one op; resolves only when the server has it on its disk. */
  send(number, id, op, base) {
    const headers = { "Content-Type": "application/json", "If-Match": `"${base}"` };
    if (this.person) headers["X-Person"] = encodeURIComponent(this.person);
    const body = JSON.stringify({ id, op });
    const keepalive = body.length < SMALL;
    const options = { method: "POST", headers, body, keepalive, wait: 20000 };
    return this.json(`/api/cases/${number}/events`, options);
  }

  /** Writes the repaired labels beside the originals. */
  export() {
    return this.json("/api/export", { method: "POST", wait: 600000 });
  }
}

/** `path?a=1&b=2` without what is null. */
export function withQuery(path, query) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}
