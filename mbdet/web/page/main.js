// The page: what its controls do.

import { findGpu, Model } from "./model.js";
import { countCameras, openCamera, openVideo, readPicture } from "./sources.js";
import { View } from "./view.js";

const find = (id) => document.getElementById(id);

let view;
let model;
let moving = null; // the video or camera that is shown
let turn = 0; // counts what was opened, so that what was asked for earlier is no longer shown
let facing = "environment";

function say(text, isWrong = false) {
  find("status").textContent = text;
  find("status").classList.toggle("wrong", isWrong);
}

function enable(isReady) {
  for (const name of ["file", "camera", "device"]) find(name).disabled = !isReady;
}

async function loadModel(description, device) {
  enable(false);
  say("Loading the model…");
  model?.close();
  model = null;
  try {
    model = await Model.load(description, device);
  } catch (error) {
    if (device === "wasm") throw new Error(`The model cannot be loaded (${error.message}).`);
    find("device").value = "wasm";
    await loadModel(description, "wasm");
    say(`The GPU cannot run this model (${error.message}), so the CPU does.`);
    return;
  }
  enable(true);
  say("Ready.");
}

function tell({ milliseconds: { network, total } }, interval) {
  const threads = model.threads === 1 ? "1 thread" : `${model.threads} threads`;
  const where = model.device === "webgpu" ? "GPU" : `CPU, ${threads}`;
  const rate = interval ? ` · ${(1000 / interval).toFixed(1)} frames/s` : "";
  find("times").textContent = `${network.toFixed(1)} ms network · ${total.toFixed(1)} ms in all${rate} · ${where}`;
}

/** Run what the user asked for; whatever goes wrong is said on the page. */
async function attempt(action) {
  try {
    await action();
  } catch (error) {
    say(error.message, true);
  }
}

function stop() {
  turn++;
  moving?.end();
  moving = null;
  for (const name of ["turn", "pause", "stop", "position-field"]) find(name).hidden = true;
  find("camera").hidden = false;
}

async function lookAt(source, size) {
  const mine = turn;
  const result = await model.run(view.take(source, size));
  if (mine !== turn) return;
  say(sentence(view.show(result)));
  tell(result);
}

function sentence(words) {
  return `${words[0].toUpperCase()}${words.slice(1)}.`;
}

async function openFile(file) {
  if (!file || !model) return;
  stop();
  const mine = turn;
  if (file.type.startsWith("video/")) {
    const video = await openVideo(file);
    if (mine !== turn) video.end();
    else follow(video, file.name);
    return;
  }
  say("Looking…");
  const bitmap = await readPicture(file);
  try {
    if (mine === turn) await lookAt(bitmap, { height: bitmap.height, width: bitmap.width });
  } finally {
    bitmap.close();
  }
}

async function startCamera() {
  stop();
  const mine = turn;
  say("Starting the camera…");
  const camera = await openCamera(facing, () => {
    if (mine !== turn) return;
    stop();
    say("The camera is gone: it was unplugged, or is no longer allowed.", true);
  });
  if (mine !== turn) {
    camera.end();
    return;
  }
  find("camera").hidden = true;
  follow(camera, "The camera");
  find("turn").hidden = (await countCameras()) < 2 || mine !== turn;
}

/** Show frame after frame, each as soon as the one before it is done. */
function follow(source, name) {
  moving = source;
  const { element } = source;
  const isFile = Number.isFinite(element.duration);
  find("position-field").hidden = !isFile;
  find("pause").hidden = find("stop").hidden = false;
  find("pause").textContent = "Pause";
  find("stop").focus();
  say(`${name} is running.`);
  attempt(async () => {
    let last = performance.now();
    let interval = 0;
    try {
      while (!source.ended) {
        await source.nextFrame();
        if (source.ended || !model) return;
        const result = await model.run(view.take(element, source.size));
        if (source.ended) return;
        view.show(result);
        const now = performance.now();
        interval = interval ? 0.9 * interval + 0.1 * (now - last) : now - last;
        last = now;
        tell(result, interval);
        if (isFile) find("position").value = element.currentTime / element.duration;
      }
    } finally {
      if (moving === source) stop(); // what fails does not keep the camera on
    }
  });
}

async function togglePause() {
  const { element } = moving;
  const tellState = () => {
    find("pause").textContent = element.paused ? "Go on" : "Pause";
  };
  const started = element.paused ? element.play() : element.pause();
  tellState();
  try {
    await started;
  } catch (error) {
    if (error.name === "AbortError") return; // paused or stopped before it had begun
    tellState();
    throw new Error(`It cannot go on (${error.message}).`);
  }
}

async function changeDevice(description) {
  const wasMoving = Boolean(moving);
  stop();
  await loadModel(description, find("device").value);
  if (!wasMoving && !find("stage").hidden) {
    const picture = find("picture");
    await lookAt(picture, { height: picture.height, width: picture.width });
  }
}

function listen(description) {
  find("file").addEventListener("change", ({ target }) => {
    const [file] = target.files;
    target.value = ""; // so that the same one can be opened again
    attempt(() => openFile(file));
  });
  find("camera").addEventListener("click", () => attempt(startCamera));
  find("turn").addEventListener("click", () => {
    facing = facing === "user" ? "environment" : "user";
    attempt(startCamera);
  });
  find("pause").addEventListener("click", () => attempt(togglePause));
  find("stop").addEventListener("click", () => {
    stop();
    say("Stopped.");
    find("camera").focus();
  });
  find("position").addEventListener("input", ({ target }) => {
    moving.element.currentTime = target.value * moving.element.duration;
  });
  find("device").addEventListener("change", () => attempt(() => changeDevice(description)));
  for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      find("frame").classList.toggle("over", name === "dragenter" || name === "dragover");
    });
  }
  document.addEventListener("drop", ({ dataTransfer }) => attempt(() => openFile(dataTransfer.files[0])));
  document.addEventListener("paste", ({ clipboardData }) => attempt(() => openFile(clipboardData.files[0])));
}

async function readDescription() {
  try {
    return await (await fetch("model.json")).json();
  } catch {
    throw new Error("The model's description (model.json) cannot be read; build the page again.");
  }
}

attempt(async () => {
  say("Loading the model…");
  const description = await readDescription();
  const { file, task, input, class_names: names, decoding, output, precision } = description;
  find("model").textContent = `${file} · ${task} · ${names.length} classes · ${input.size[1]}×${input.size[0]} pixels`;
  find("score-field").hidden = find("list").hidden = !output.boxes;
  find("opacity-field").hidden = !output.classes;
  find("sure-field").hidden = !output.probabilities;
  if (decoding) find("score").min = decoding.score_threshold;
  view = new View(description);
  listen(description);
  const gpu = await findGpu();
  if (gpu.present) find("device").add(new Option("GPU (WebGPU)", "webgpu"));
  // 8-bit integers are made for the CPU; on the GPU they cost more than they save.
  if (gpu.real && precision !== "int8") find("device").value = "webgpu";
  await loadModel(description, find("device").value);
});
