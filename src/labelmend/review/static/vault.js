/** What this browser keeps until the server has it: strokes, in order, on the disk. */

const NAME = "labelmend";
const STROKES = "strokes";

function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      const store = request.result.createObjectStore(STROKES, { keyPath: "id" });
      store.createIndex("run", "run");
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Strokes on the disk; without a database (a private window), in memory, and `lasting` is false. */
export class Vault {
  constructor() {
    this.base = null;
    this.lasting = false;
  }

  async open() {
    try {
      this.base = await open();
      this.lasting = true;
    } catch {
      this.lasting = false;
    }
  }

  /** Puts and removes in one transaction that is on the disk before it resolves. */
  async change(put, remove = []) {
    if (!this.base) return;
    await new Promise((resolve, reject) => {
      const work = this.base.transaction(STROKES, "readwrite", { durability: "strict" });
      const store = work.objectStore(STROKES);
      for (const stroke of put) store.put(stroke);
      for (const id of remove) store.delete(id);
      work.commit(); // now: a page that is being left does not come back to do it
      work.oncomplete = resolve;
      work.onabort = () => reject(work.error);
    });
  }

  /** All strokes of a run, oldest first. */
  async list(run) {
    if (!this.base) return [];
    const found = await new Promise((resolve, reject) => {
      const work = this.base.transaction(STROKES, "readonly");
      const request = work.objectStore(STROKES).index("run").getAll(run);
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
    return found.sort((a, b) => a.time - b.time || a.place - b.place);
  }
}
