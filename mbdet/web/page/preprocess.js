// From the pixels of a picture to the input of the network, as mbdet prepares it.

import { clamp, roundHalfEven } from "./numbers.js";
import { resizePlane } from "./resize.js";

/** The part of the network input, at its top left, that shows a picture of a size. */
export function placedSize(size, inputSize, resizing) {
  if (resizing === "stretch") return inputSize;
  const zoom = Math.min(inputSize.height / size.height, inputSize.width / size.width);
  if (resizing === "pad" && zoom >= 1) return size;
  const fitted = (side) => clamp(roundHalfEven(size[side] * zoom), 1, inputSize[side]);
  return { height: fitted("height"), width: fitted("width") };
}

/**
 * Bring a picture into the network input.
 *
 * @param {Uint8ClampedArray} rgba - Pixels of the picture, four bytes each; the fourth is not looked at.
 * @param {{height: number, width: number}} size - Of the picture.
 * @param {object} input - What the model's description says about its input.
 * @returns {Uint8Array} Three planes, red, green and blue, of the network's input size.
 */
export function prepare(rgba, size, input) {
  const [height, width] = input.size;
  const placed = placedSize(size, { height, width }, input.resize);
  const planes = new Uint8Array(3 * height * width);
  for (let colour = 0; colour < 3; colour++) {
    const plane = new Uint8ClampedArray(size.height * size.width);
    for (let i = 0; i < plane.length; i++) plane[i] = rgba[4 * i + colour];
    const resized = resizePlane(plane, size, placed);
    const target = planes.subarray(colour * height * width, (colour + 1) * height * width);
    if (input.padding_color) target.fill(input.padding_color[colour]);
    for (let row = 0; row < placed.height; row++) {
      target.set(resized.subarray(row * placed.width, (row + 1) * placed.width), row * width);
    }
  }
  return planes;
}
