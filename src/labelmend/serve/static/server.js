/** Everything the page asks of its server, with the token, where one is wanted. */

const TOKEN = "labelmend/serve-token";

/** Why there is no answer, in the words of the server. */
export class Refusal extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

/** The token: out of the address, which forgets it at once, or as this tab remembers it. */
function readToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(TOKEN, given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(TOKEN);
}

async function refusalOf(response) {
  const answer = await response.json().catch(() => null);
  const words = typeof answer?.detail === "string" ? answer.detail : `the server answered with status ${response.status}`;
  return new Refusal(response.status, words);
}

/** Whether a file's content is there: a folder's is not, and sending it looks as if no server answered. */
function isReadable(file) {
  return file.arrayBuffer().then(() => true, () => false);
}

function rest(seconds) {
  return new Promise((done) => setTimeout(done, 1000 * seconds));
}

/** Every method rejects with a Refusal, whose message is for people. */
export class Server {
  constructor() {
    this.token = readToken();
  }

  async ask(path, options = {}) {
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    let response;
    try {
      response = await fetch(path, { ...options, headers: { ...headers, ...options.headers }, cache: "no-store" });
    } catch {
      throw new Refusal(0, "the server does not answer; look whether labelmend serve is still running");
    }
    if (!response.ok) {
      const refusal = await refusalOf(response);
      refusal.pause = Number(response.headers.get("Retry-After")) || 1;
      throw refusal;
    }
    return response;
  }

  async model() {
    return (await this.ask("/v1/model")).json();
  }

  /** The label of a file and what it means; while the server is busy it is asked again. */
  async predict(file, model, waits) {
    const query = { name: file.name.slice(-200), answer: "json", look: "true" };
    if (model.task === "segmentation") query.conclusions = "true";
    if (file.size > model.limits.largest_body) {
      const most = (model.limits.largest_body / 2 ** 20).toFixed(0);
      throw new Refusal(413, `the file is larger than ${most} MiB, the most that this server takes`);
    }
    const path = `/v1/predict?${new URLSearchParams(query)}`;
    const headers = { "Content-Type": "application/octet-stream" };
    for (;;) {
      try {
        const response = await this.ask(path, { method: "POST", body: file, headers });
        return await response.json();
      } catch (error) {
        if (error.status === 0 && !(await isReadable(file))) {
          throw new Refusal(0, "it cannot be read: it is a folder, or was moved or changed since it was chosen");
        }
        if (error.status !== 429) throw error;
        waits();
        await rest(error.pause);
      }
    }
  }

  /** A slice of the image, or the classes of its positions, as a bitmap with values unchanged. */
  async slice(look, which, axis, index) {
    const query = index === null ? "" : `?${new URLSearchParams({ axis, index })}`;
    const response = await this.ask(`/v1/looks/${look}/${which}${query}`);
    const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
    return createImageBitmap(await response.blob(), options);
  }

  async wave(look, which, columns) {
    return (await this.ask(`/v1/looks/${look}/${which}/wave?columns=${columns}`)).json();
  }
}
