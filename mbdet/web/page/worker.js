// Runs the network beside the page, so that the page goes on answering.

import { readMap, readObjects } from "./postprocess.js";
import { prepare } from "./preprocess.js";

let engine;
let session;
let input;

async function load({ description, device }) {
  ({ input } = description);
  engine = await import(`./engine/${device}.js`);
  const folder = new URL("./engine/", import.meta.url);
  engine.env.wasm.wasmPaths = {
    mjs: new URL(`${device}-threads.js`, folder).href,
    wasm: new URL(`${device}.wasm`, folder).href,
  };
  // Else the engine takes half the cores, four at most.
  if (!self.crossOriginIsolated) engine.env.wasm.numThreads = 1;
  engine.env.logLevel = "error";
  const answer = await fetch(new URL("model.onnx", import.meta.url));
  if (!answer.ok) throw new Error(`model.onnx: ${answer.status} ${answer.statusText}`);
  session = await engine.InferenceSession.create(new Uint8Array(await answer.arrayBuffer()), {
    executionProviders: device === "webgpu" ? ["webgpu", "wasm"] : ["wasm"],
    logSeverityLevel: 3,
  });
  // The first run allocates and compiles; it is not one to be timed.
  await compute(new Uint8Array(3 * input.size[0] * input.size[1]));
  return { threads: engine.env.wasm.numThreads };
}

async function compute(planes) {
  const images = new engine.Tensor("uint8", planes, [1, 3, ...input.size]);
  const found = await session.run({ [input.name]: images });
  return Object.fromEntries(Object.entries(found).map(([name, tensor]) => [name, tensor.data]));
}

async function run({ rgba, size }) {
  const start = performance.now();
  const planes = prepare(rgba, size, input);
  const prepared = performance.now();
  const outputs = await compute(planes);
  const computed = performance.now();
  const objects = outputs.boxes ? readObjects(outputs, size, input) : null;
  const map = outputs.classes ? readMap(outputs) : null;
  return { objects, map, size, milliseconds: { network: computed - prepared, total: performance.now() - start } };
}

self.addEventListener("message", async ({ data: { id, task, ...order } }) => {
  try {
    self.postMessage({ id, result: await { load, run }[task](order) });
  } catch (error) {
    self.postMessage({ id, error: error?.message ?? String(error) });
  }
});
