// Where pictures come from: files, videos, the camera.

import { withoutProfile } from "./profile.js";

const MOST_PIXELS = 16e6; // that canvases of phones hold

/** Decode a picture, upright, its colours as they are stored; a larger one than browsers can hold is made smaller. */
export async function readPicture(file) {
  const options = { colorSpaceConversion: "none" };
  let plain, bitmap;
  try {
    plain = await withoutProfile(file);
    bitmap = await createImageBitmap(plain, options);
  } catch {
    throw new Error(`${file.name || "What was pasted"} is not a picture or video that this browser reads; use JPEG or PNG.`);
  }
  const zoom = Math.sqrt(MOST_PIXELS / (bitmap.width * bitmap.height));
  if (zoom >= 1) return bitmap;
  const small = { resizeWidth: Math.floor(bitmap.width * zoom), resizeHeight: Math.floor(bitmap.height * zoom) };
  bitmap.close();
  return createImageBitmap(plain, { ...options, ...small, resizeQuality: "high" });
}

/** Something that moves: a video file or a camera, playing in an element that is not on the page. */
class Moving {
  #release;
  #wake = () => {};
  ended = false;

  constructor(release) {
    this.element = document.createElement("video");
    Object.assign(this.element, { muted: true, playsInline: true, loop: true });
    this.#release = release;
  }

  /** Wait for the next frame, also for that which a jump of a paused video brings, or for the end. */
  nextFrame() {
    const { element } = this;
    return new Promise((resolve) => {
      this.#wake = resolve;
      if (element.requestVideoFrameCallback) element.requestVideoFrameCallback(resolve);
      else requestAnimationFrame(resolve);
    });
  }

  get size() {
    return { height: this.element.videoHeight, width: this.element.videoWidth };
  }

  end() {
    this.ended = true;
    this.element.pause();
    this.#release();
    this.#wake();
  }
}

export async function openVideo(file) {
  const url = URL.createObjectURL(file);
  const video = new Moving(() => URL.revokeObjectURL(url));
  video.element.src = url;
  await start(video, `${file.name} cannot be played by this browser; use MP4 (H.264) or WebM.`);
  return video;
}

/** Start a camera; `facing` is "environment" or "user", and `lost` is called when it is unplugged or taken away. */
export async function openCamera(facing, lost) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("The camera is out of reach: browsers give it only to pages that come by https or from localhost.");
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: facing } });
  } catch (error) {
    const reasons = {
      NotAllowedError: "The camera is not allowed for this page; allow it in the browser's settings.",
      NotFoundError: "There is no camera on this device.",
      NotReadableError: "The camera is in use by another program.",
    };
    throw new Error(reasons[error.name] ?? `The camera cannot be started (${error.message}).`);
  }
  const camera = new Moving(() => stream.getTracks().forEach((track) => track.stop()));
  for (const track of stream.getVideoTracks()) track.addEventListener("ended", lost);
  camera.element.srcObject = stream;
  await start(camera, "The camera gives no picture.");
  return camera;
}

export async function countCameras() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter(({ kind }) => kind === "videoinput").length;
}

async function start(moving, problem) {
  try {
    await moving.element.play();
    if (!moving.element.videoWidth) throw new Error("it has no picture");
  } catch {
    moving.end();
    throw new Error(problem);
  }
}
