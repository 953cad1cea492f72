// The model as the page sees it: loaded once, then asked for one picture at a time.

export class Model {
  #worker;
  #waiting = new Map();
  #next = 0;

  /**
   * Load the model of this page.
   *
   * @param {object} description - Its model.json.
   * @param {"wasm"|"webgpu"} device - What computes.
   * @returns {Promise<Model>} With the number of CPU threads as `threads`.
   */
  static async load(description, device) {
    const model = new Model();
    try {
      const { threads } = await model.#ask({ task: "load", description, device });
      return Object.assign(model, { description, device, threads });
    } catch (error) {
      model.close();
      throw error;
    }
  }

  constructor() {
    this.#worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.#worker.addEventListener("message", ({ data: { id, result, error } }) => {
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) resolve(result);
      else reject(new Error(error));
    });
    // Where the script itself cannot be loaded.
    this.#worker.addEventListener("error", (event) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(event.message ?? "its script cannot be loaded"));
      this.#waiting.clear();
    });
  }

  /**
   * Find what is in a picture.
   *
   * @param {ImageData} pixels - The picture, whose memory is handed over.
   * @returns {Promise<object>} `objects` as `readObjects` and `map` as `readMap` return them, null where the network has
   *   none; the picture's `size`; and how many `milliseconds` the `network` took, and all of it (`total`).
   */
  run(pixels) {
    const { data: rgba, height, width } = pixels;
    return this.#ask({ task: "run", rgba, size: { height, width } }, [rgba.buffer]);
  }

  /** End it; what it was asked for is never answered. */
  close() {
    this.#worker.terminate();
  }

  #ask(order, transfer = []) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, ...order }, transfer);
    });
  }
}

/** Tell whether WebGPU can be had here, and whether it is a real one rather than an imitation on the CPU. */
export async function findGpu() {
  try {
    const adapter = await navigator.gpu?.requestAdapter();
    return { present: Boolean(adapter), real: Boolean(adapter) && !adapter.info?.isFallbackAdapter };
  } catch {
    return { present: false, real: false };
  }
}
